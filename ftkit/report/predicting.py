"""The lines of Python that predict with a run's loaded model by plain transformers, for its README.md and page.

They stand behind those that load `model` and `tokenizer`, and ask what `ftkit predict` would: by the prompt or chat template
of training, cut at its length, answered as long and by as many beams.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from ftkit.report.evidence import Evidence

SENTENCE = "Ada Lovelace was born in London ."
Lines = list[str]


def predicting_words(evidence: Evidence) -> Lines:
    """A few lines behind the model's own; none for a class that has no such use, or a run that says too little of itself."""
    make = PREDICTING.get(evidence.record["auto_class"])
    return make(evidence) if make and "serving" in evidence.record else []


def labelled_text(evidence: Evidence) -> Lines:
    """A label, several labels or a number for a text or a pair of texts."""
    texts = ["text", "text_pair"] if takes_pairs(evidence) else ["text"]
    asked = [f"{name} = {example(name)!r}" for name in texts]
    cut = f"truncation=True, max_length={evidence.record['max_length']}"
    inputs = f'inputs = tokenizer({", ".join(texts)}, {cut}, return_tensors="pt").to(model.device)'
    told = TOLD[evidence.record["serving"]["problem_type"]]
    if (scale := evidence.record.get("label_scale")) and not scale["in_head"]:
        told = [f"print((logits * {scale['deviation']!r} + {scale['mean']!r}).tolist())"]
    return [*asked, inputs, "with torch.no_grad():", "    logits = model(**inputs).logits[0].float()", *told]


TOLD: dict[str, Lines] = {
    "regression": ["print(logits.tolist())"],
    "single_label_classification": [
        "best = int(logits.argmax())",
        "print(model.config.id2label[best], float(logits.softmax(-1)[best]))",
    ],
    "multi_label_classification": [
        "chances = logits.sigmoid().tolist()",
        "print([model.config.id2label[place] for place, chance in enumerate(chances) if chance > 0.5])",
    ],
}


def takes_pairs(evidence: Evidence) -> bool:
    return "text_pair" in evidence.recipe.data.columns or any("text_pair" in row for row in evidence.rows[:1])


def labelled_words(evidence: Evidence) -> Lines:
    """A tag a word, told by the word's first token."""
    words = '[f" {word}" for word in words]' if evidence.record["serving"]["space_before_words"] else "words"
    cut = f"truncation=True, max_length={evidence.record['max_length']}"
    return [
        f"words = {SENTENCE!r}.split()",
        f'inputs = tokenizer({words}, is_split_into_words=True, {cut}, return_tensors="pt")',
        "first_tokens = [inputs.word_ids().index(word) for word in sorted(set(inputs.word_ids()) - {None})]",
        "with torch.no_grad():",
        "    logits = model(**inputs.to(model.device)).logits[0]",
        "print([model.config.id2label[int(logits[token].argmax())] for token in first_tokens])",
    ]


def continued_text(evidence: Evidence) -> Lines:
    """What a decoder answers to a prompt or chat of training; of a run without prompts, how a text goes on."""
    answer = 'print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())'
    return [*asked_lines(evidence), f"answer = model.generate(**inputs, {generation(evidence)})", answer]


def written_text(evidence: Evidence) -> Lines:
    """What a decoder with an encoder writes of a prompt."""
    answer = "print(tokenizer.decode(answer[0], skip_special_tokens=True).strip())"
    return [*asked_lines(evidence), f"answer = model.generate(**inputs, {generation(evidence)})", answer]


def generation(evidence: Evidence) -> str:
    block = evidence.recipe.evaluation.generation
    return f"max_new_tokens={block.max_new_tokens}, num_beams={block.num_beams}, do_sample=False"


def asked_lines(evidence: Evidence) -> Lines:
    """`inputs`, by what the run's recorded prompts are made of."""
    prompts = evidence.data.get("prompts") or []
    if prompts and "messages" in prompts[0]:
        return chat_lines(prompts)
    forms = Counter(prompt["form"] for prompt in prompts) or Counter([*evidence.prompt_forms][:1])
    prompt = prompt_words(forms.most_common(1)[0][0], evidence) if forms else repr("Once upon a time")
    return [f"prompt = {prompt}", 'inputs = tokenizer(prompt, return_tensors="pt").to(model.device)']


def prompt_words(form: str, evidence: Evidence) -> str:
    """The form of training as Python text, a `replace` for each column that fills it."""
    text = evidence.prompt_forms[form]
    columns = {f"{{{name}}}": example(name) for name in evidence.recipe.spec.roles}
    return repr(text) + "".join(f".replace({mark!r}, {said!r})" for mark, said in columns.items() if mark in text)


def chat_lines(prompts: list[dict[str, Any]]) -> Lines:
    """A chat of one question, behind the system message where all recorded chats begin with the same."""
    firsts = [prompt["messages"][0] for prompt in prompts if prompt.get("messages")]
    same = firsts[1:] and all(first == firsts[0] and first.get("role") == "system" for first in firsts)
    messages = [*(firsts[:1] if same else []), {"role": "user", "content": example("question")}]
    arguments = "".join(f", {name}={value!r}" for name, value in (prompts[0].get("arguments") or {}).items())
    return [
        f"messages = {messages!r}",
        "inputs = tokenizer.apply_chat_template(",
        f'    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"{arguments}',
        ").to(model.device)",
    ]


def filled_text(evidence: Evidence) -> Lines:
    """The likeliest tokens for a hidden one."""
    return [
        'text = f"I was glad to see {tokenizer.mask_token} again."',
        'inputs = tokenizer(text, return_tensors="pt").to(model.device)',
        "with torch.no_grad():",
        "    logits = model(**inputs).logits[0]",
        'hidden = inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)',
        "print([tokenizer.decode([token]) for token in logits[hidden].topk(5).indices.tolist()])",
    ]


def example(role: str) -> str:
    return f"Put the {role.replace('_', ' ')} here."


PREDICTING: dict[str, Callable[[Evidence], Lines]] = {
    "AutoModelForSequenceClassification": labelled_text,
    "AutoModelForTokenClassification": labelled_words,
    "AutoModelForCausalLM": continued_text,
    "AutoModelForSeq2SeqLM": written_text,
    "AutoModelForMaskedLM": filled_text,
}
