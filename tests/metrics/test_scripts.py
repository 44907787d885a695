"""Kind: metrics of generated text that know Latin letters alone.

Swept over twenty scripts: texts that are identical are 1, texts that share a year or nothing are near 0, half of a text is
between; a text of Latin letters is scored as by rouge-score, to all digits; what repeats itself without spaces does.
"""

import string
from random import Random

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from ftkit import load_metric
from ftkit.metrics.names import shown_name
from ftkit.metrics.scripts import bleu_tokenizer, tokens, written
from ftkit.metrics.text import (
    ROUGE_NAMES,
    health_scores,
    repetition,
    rouge_scores,
    signatures,
    text_details,
    text_metrics,
    text_resamplers,
)

# Two sentences a script that have the year 2024 in common alone, and what BLEU and ROUGE count there.
SCRIPTS = {
    "Latin": ("The river froze early in 2024 near the bridge.", "Nobody bought 2024 tickets for our concert yesterday.", "13a", ""),
    "Cyrillic": ("Река замёрзла рано в 2024 году у моста.", "Никто не купил 2024 билета на концерт.", "13a", "Unicode words"),
    "Greek": ("Το ποτάμι πάγωσε νωρίς το 2024 κοντά στη γέφυρα.", "Κανείς δεν αγόρασε 2024 εισιτήρια χθες.", "13a", "Unicode words"),
    "Arabic": ("تجمد النهر مبكرا عام 2024 قرب الجسر.", "لم يشتر أحد 2024 تذكرة أمس.", "13a", "Unicode words"),
    "Hebrew": ("הנהר קפא מוקדם בשנת 2024 ליד הגשר.", "איש לא קנה 2024 כרטיסים אתמול.", "13a", "Unicode words"),
    "Devanagari": ("नदी 2024 में पुल के पास जल्दी जम गई।", "कल किसी ने 2024 टिकट नहीं खरीदे।", "13a", "Unicode words"),
    "Bengali": ("নদী 2024 সালে সেতুর কাছে তাড়াতাড়ি জমে যায়।", "গতকাল কেউ 2024 টিকিট কেনেনি।", "13a", "Unicode words"),
    "Tamil": ("ஆறு 2024 இல் பாலத்தின் அருகே உறைந்தது.", "நேற்று யாரும் 2024 சீட்டு வாங்கவில்லை.", "13a", "Unicode words"),
    "Georgian": ("მდინარე 2024 წელს ხიდთან ადრე გაიყინა.", "გუშინ არავინ იყიდა 2024 ბილეთი.", "13a", "Unicode words"),
    "Armenian": ("Գետը 2024 թվականին սառեց կամրջի մոտ։", "Երեկ ոչ ոք չգնեց 2024 տոմս։", "13a", "Unicode words"),
    "Ethiopic": ("ወንዙ በ 2024 ድልድዩ አጠገብ ቀዘቀዘ።", "ትናንት ማንም 2024 ትኬት አልገዛም።", "13a", "Unicode words"),
    "Hangul": ("강은 2024 년에 다리 근처에서 일찍 얼었다.", "어제 아무도 2024 표를 사지 않았다.", "13a", "Unicode words"),
    "Han": ("河流在2024年很早就在桥边结冰。", "昨天没人买到2024张音乐会门票。", "zh", "characters"),
    "Japanese": ("川は2024年に橋の近くで早く凍った。", "きのう誰も2024枚を買わなかった。", "char", "characters"),
    "Katakana": ("レストラン2024デパート", "アイスクリーム2024コンサート", "char", "characters"),
    "Thai": ("แม่น้ำแข็งตัวเร็วในปี2024ใกล้สะพาน", "เมื่อวานไม่มีใครซื้อตั๋ว2024ใบ", "char", "characters"),
    "Lao": ("ແມ່ນ້ຳແຂງໄວໃນປີ2024ໃກ້ຂົວ", "ມື້ວານບໍ່ມີໃຜຊື້ປີ້2024ໃບ", "char", "characters"),
    "Khmer": ("ទន្លេកកនៅឆ្នាំ2024ជិតស្ពាន", "ម្សិលមិញគ្មាននរណាទិញ2024សំបុត្រ", "char", "characters"),
    "Burmese": ("မြစ်သည်2024ခုနှစ်တွင်ခဲသည်", "မနေ့ကမည်သူမျှ2024လက်မှတ်မဝယ်", "char", "characters"),
    "Tibetan": ("གཙང་པོ་2024ལོར་འཁྱགས་པ་རེད།", "ཁ་སང་སུས་ཀྱང་2024པ་སེ་མ་ཉོས།", "char", "characters"),
}  # fmt: skip
UNSPACED = [name for name, (*_, counted) in SCRIPTS.items() if counted == "characters"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_identical_texts_are_1_and_a_shared_year_is_little(script: str) -> None:
    one, other, *_ = SCRIPTS[script]
    same, apart = text_metrics([one, other], [one, other]), text_metrics([one], [other])
    assert {same[name] for name in (*ROUGE_NAMES, "token_f1", "exact_match")} == {1.0}
    assert same["chrf"] == pytest.approx(100)
    assert same["bleu"] == pytest.approx(100)
    most = 0.5 if script in UNSPACED else 0.35  # two texts share some letters
    assert 0 < apart["rouge1"] < most
    assert apart["bleu"] < 25
    for name, metric in text_resamplers([one, other], [one, other]).items():
        assert metric.value() == pytest.approx(same[name]), name


@pytest.mark.parametrize("script", SCRIPTS)
def test_half_a_text_is_between(script: str) -> None:
    one, *_ = SCRIPTS[script]
    half = one[: len(one) // 2]
    found = rouge_scores([half], [one])
    assert 0.4 < found["rouge1"][0] < 0.85
    assert found["rougeL"][0] == pytest.approx(found["rouge1"][0])


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_is_counted_is_said(script: str) -> None:
    one, other, tokenizer, counted = SCRIPTS[script]
    details, said = text_details([one, other]), signatures([one, other])
    assert shown_name("rougeL", details) == ("rougeL" if not counted else f"rougeL ({counted})")
    assert shown_name("repetition", details) == ("repetition (characters)" if script in UNSPACED else "repetition")
    assert shown_name("bleu", details) == ("bleu" if tokenizer == "13a" else f"bleu ({tokenizer})")
    assert f"tok:{tokenizer}|" in said["bleu"]
    assert f"tok:{counted.replace(' ', '-') or 'rouge-score'}|" in said["rouge"]
    live = sacrebleu.BLEU(tokenize=tokenizer).corpus_score([other], [[one]]).score
    assert load_metric("bleu").compute(predictions=[other], references=[one])["bleu"] == live


def test_texts_of_two_scripts_that_share_a_year() -> None:
    found = text_metrics([SCRIPTS["Han"][0]], [SCRIPTS["Cyrillic"][0]])
    assert 0 < found["rouge1"] < 0.15
    assert found["rouge2"] == found["bleu"] == 0


def test_latin_texts_are_rouge_scores_own_to_all_digits() -> None:
    """With accents, ligatures, fractions, foreign signs: what rouge-score drops stays dropped."""
    random, letters = Random(3), [*string.printable, *map(chr, range(0xA1, 0x250)), *"½²–“”…€№™ﬁ́̈"]
    texts = [
        "".join(random.choice(letters[:60] if random.random() < 0.8 else letters) for _ in range(50)) for _ in range(200)
    ]
    texts += [
        " ".join(random.choice(("running", "runs", "naïve", "the", "São", "2024")) for _ in range(12)) for _ in range(100)
    ]
    others = texts[1:] + texts[:1]
    scorer = RougeScorer(ROUGE_NAMES, use_stemmer=True)
    found = rouge_scores(texts, others)
    for place, (text, other) in enumerate(zip(texts, others, strict=True)):
        assert {name: found[name][place] for name in ROUGE_NAMES} == {
            name: score.fmeasure for name, score in scorer.score(other, text).items()
        }


def test_tokens_by_hand() -> None:
    assert tokens("Windows用户在2024年") == ["windows", "用", "户", "在", "2024", "年"]
    assert tokens("नमस्ते, दुनिया।") == ["नमस्ते", "दुनिया"]
    assert tokens("สวัสดี") == ["ส", "วั", "ส", "ดี"]
    assert bleu_tokenizer(["a long English text " * 9, "河流"]) == "13a"
    assert bleu_tokenizer(["an English text", "河流在很早就在桥边结冰"]) == "zh"


@pytest.mark.parametrize(
    "text",
    ["ZZZZ" * 10, "Z" * 9, "!" * 40, "lalala" * 9, "哈哈哈哈哈哈哈哈", "好的好的好的好的好的", "no no no no no no no no"],
)
def test_what_repeats_itself_is_repetition(text: str) -> None:
    assert health_scores([text], ["a"], [True])["repetition"].value() > 0.5


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_sound_sentence_is_no_repetition(script: str) -> None:
    one, other, *_ = SCRIPTS[script]
    assert repetition(written(one + other)) < 0.1
    found = health_scores([one + " " + one, "", other], [one, other, other], [True] * 3)
    assert found["repetition"].value() > 0.1
    assert found["empty_rate"].value() == pytest.approx(1 / 3)


@pytest.mark.parametrize("script", UNSPACED)
def test_a_length_without_spaces_is_of_characters(script: str) -> None:
    one, *_ = SCRIPTS[script]
    half, twice = one[: len(one) // 2], one + one
    ratios = [health_scores([text], [one], [True])["length_ratio"].value() for text in (half, one, twice)]
    assert ratios == pytest.approx([0.5, 1, 2], abs=0.16)
    assert np.isfinite(ratios).all()
