"""Kind: a word of another tool, in a recipe or on the command line, leads to the right key, and never to a wrong one.

Each entry is what somebody wrote and what the hint has to name; of what ftkit has not, the words that say so. Nine and a half
in ten have to be right and none may be wrong: a hint that names another key of the recipe than the right ones.
"""

import copy
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from ftkit.cli.main import app
from ftkit.cli.other_words import at_home, refuse_other_words
from ftkit.errors import UserError
from ftkit.recipe.blocks import BLOCKS
from ftkit.recipe.document import parse_value
from ftkit.recipe.load import load_values
from ftkit.recipe.schema import Lora, Recipe
from ftkit.recipe.words import ABSENT, CHOICES, COLUMNS, COMMANDS, KEYS, METRICS, NO_COMMANDS, VALUES, plain

LORA = {"name": "lora", "target_modules": "all-linear"}
RECIPES: dict[str, dict[str, Any]] = {  # by the letter before an entry
    "c": {"task": "text-classification", "model": "m", "strategy": LORA, "data": {"train": "rows.csv"}},
    "i": {"task": "instruction", "model": "m", "strategy": LORA, "data": {"train": "rows.jsonl"}},
    "s": {"task": "summarization", "model": "m", "strategy": "full", "data": {"train": "rows.jsonl"}},
    "t": {"task": "token-classification", "model": "m", "strategy": "full", "data": {"train": "rows.conll"}},
    "r": {"task": "text-regression", "model": "m", "strategy": {"name": "transfer"}, "data": {"train": "rows.csv"}},
    "l": {"task": "language-modeling", "model": "m", "strategy": "full", "data": {"train": "rows.txt"}},
    "-": {"strategy": LORA, "training": {"learning_rate": 1e-4}},  # nothing but what other tools write
}
# letter: what was written | what the hint has to name (alternatives are parted by /)
WRITTEN = """
i: cutoff_len: 1024 | model.max_length
i: max_seq_length: 2048 | model.max_length
i: sequence_len: 4096 | model.max_length
i: training: {max_length: 512} | model.max_length
i: model: {name: m, model_max_length: 512} | model.max_length
i: training: {max_seq_len: 512} | model.max_length
i: block_size: 256 | model.max_length
-: base_model: NousResearch/Llama-3.2-1B | model.name
-: model_name_or_path: gpt2 | model.name
-: model_id: gpt2 | model.name
i: model: {path: gpt2} | model.name
c: tokenizer_name_or_path: bert | model.tokenizer
c: tokenizer: bert | model
c: torch_dtype: bfloat16 | model.dtype
c: model: {name: m, dtype: bf16} | bfloat16
c: model: {name: m, torch_dtype: float32} | model.dtype
c: model: {name: m, dtype: float16} | float16
i: flash_attn: fa2 | model.attn_implementation: flash_attention_2
i: use_flash_attention_2: true | model.attn_implementation: flash_attention_2
i: attn_impl: sdpa | model.attn_implementation
i: lora_rank: 8 | strategy.r
i: lora_r: 16 | strategy.r
i: strategy: {name: lora, rank: 8} | strategy.r
i: strategy: {name: lora, alpha: 16} | strategy.lora_alpha
i: strategy: {name: lora, dropout: 0.1} | strategy.lora_dropout
i: peft_lora_r: 8 | strategy.r
i: lora_alpha: 16 | strategy
-: lora_target: all | strategy.target_modules
-: lora_target_linear: true | strategy.target_modules
-: lora_target_modules: [q_proj] | strategy.target_modules
i: lora_modules_to_save: [lm_head] | strategy.modules_to_save
i: additional_target: lm_head | strategy.modules_to_save
i: load_in_4bit: true | strategy: qlora
i: load_in_8bit: true | no 8-bit
i: quantization_bit: 4 | strategy: qlora
i: quantization_bit: 8 | 4 bits
i: bnb_4bit_quant_type: nf4 | NF4
i: use_qlora: true | strategy: qlora
i: finetuning_type: freeze | strategy: transfer/cannot be with task instruction
c: finetuning_type: freeze | strategy: transfer
i: finetuning_type: full | strategy
i: adapter: qlora | strategy
i: use_peft: true | strategy: lora
c: freeze_backbone: true | strategy: transfer
r: freeze_trainable_layers: 2 | strategy.unfreeze_last
r: lora_rank: 8 | strategy.r
i: use_dora: true | strategy
i: peft_use_rslora: true | strategy.use_rslora
i: pissa_init: true | strategy.init_lora_weights: pissa
i: peft: {r: 8} | strategy
i: lora: {r: 8} | strategy
c: strategy: {type: lora} | name
c: strategy: head | transfer
c: strategy: linear_probe | transfer
c: strategy: peft | lora
c: strategy: 4bit | qlora
c: strategy: dora | use_dora
c: strategy: prefix_tuning | no such strategy
c: strategy: fft | full
-: stage: sft | task: instruction
-: stage: pt | task: language-modeling
-: stage: dpo | no preference
-: rl: dpo | no preference
-: reward_funcs: [a] | no preference
i: pref_beta: 0.1 | no preference
c: task: ner | token-classification
c: task: sft | instruction
c: task: mlm | masked-language-modeling
c: task: clm | language-modeling
c: task: SEQ_CLS | text-classification
c: task: sentiment | text-classification
c: task: kto | no preference
c: task: question-answering | no extractive
c: task: summarisation | summarization
c: task: text-generation | instruction
c: task: embedding | no such task
c: task: llm:sft | instruction
c: task: text_binary_classification | text-classification
-: dataset: alpaca.json | data.train
-: datasets: [{path: a.jsonl}] | data.train
-: train_file: a.csv | data.train
c: validation_file: b.csv | data.eval
c: data: {train: a.csv, validation: b.csv} | data.eval
c: val_size: 0.1 | data.eval_size
c: val_set_size: 0.05 | data.eval_size
c: data: {train: a.csv, test_split_size: 0.1} | data.eval_size
c: max_samples: 1000 | data.train.rows
c: max_eval_samples: 100 | evaluation.rows
l: dataset_text_field: body | data.columns.text
c: label_column: stars | data.columns.label
i: template: llama3 | data.chat_template
i: template: chatml | data.chat_template
i: sample_packing: true | data.packing
i: train_on_inputs: false | data.supervise
i: completion_only_loss: true | data.supervise
i: mask_history: true | data.supervise: last
i: default_system: be kind | data.prompt
i: data: {train: {path: a.jsonl, type: alpaca}} | data.columns
i: data: {train: {path: a.jsonl, format: sharegpt}} | columns
c: data: {train: {path: a.xlsx, format: xlsx}} | csv or parquet
t: data: {train: {path: a.bio, format: bio}} | conll
c: data: {train: {path: a.jsonl, format: jsonl}} | json
c: id2label: {0: a} | data.labels
c: num_labels: 3 | data.labels
c: multi_label: true | data.label_separator
c: dataset_exact_deduplication: true | data.clean.duplicates: exact
c: data: {train: a.csv, clean: {duplicates: minhash}} | near
c: dataset_num_proc: 4 | cache
c: class_weights: balanced | data.clean.balance
i: micro_batch_size: 2 | training.per_device_train_batch_size
c: batch_size: 8 | training.per_device_train_batch_size
c: training: {train_batch_size: 8} | training.per_device_train_batch_size
c: per_device_eval_batch_size: 8 | training
c: eval_batch_size: 8 | training.per_device_eval_batch_size
c: global_batch_size: 64 | training.effective_batch_size
c: num_epochs: 3 | training.num_train_epochs
c: training: {epochs: 3} | training.num_train_epochs
c: max_train_steps: 100 | training.max_steps
c: lr: 1e-4 | training.learning_rate
c: training: {learningrate: 1e-4} | learning_rate
c: lr_scheduler: cosine | training.lr_scheduler_type
c: warmup_ratio: 0.1 | training.warmup_steps
c: optimizer: adamw | training.optim: adamw_torch
c: training: {optim: adam} | adamw_torch
c: gradient_clipping: 1.0 | training.max_grad_norm
c: grad_accum: 4 | training.gradient_accumulation_steps
c: gradient_checkpointing: true | training.activation_checkpointing
c: mixed_precision: bf16 | training.bf16
c: precision: 16-mixed | training.fp16
c: evaluation_strategy: steps | training.eval_strategy
c: eval_every: 50 | training.eval_steps
c: training: {save_every: 50} | training.save_steps
c: log_every_n_steps: 5 | training.logging_steps
c: early_stopping_patience: 3 | training.load_best_model_at_end
c: use_wandb: true | training.report_to: wandb
c: group_by_length: true | train_sampling_strategy
c: no_cuda: true | CUDA_VISIBLE_DEVICES=
c: device: cuda:1 | CUDA_VISIBLE_DEVICES
c: num_processes: 8 | CUDA_VISIBLE_DEVICES
c: output_dir: out | --output-dir
c: overwrite_output_dir: true | --overwrite
c: resume_from_checkpoint: true | --resume
c: push_to_hub: true | ftkit push RUN
c: seed: 7 | training.seed
c: trainer: {learning_rate: 1e-4} | training
c: metric: f1 | evaluation.metrics: [f1]
c: evaluation: {metrics: [mcc]} | matthews_correlation
c: evaluation: {metrics: [auroc]} | roc_auc
c: evaluation: {metrics: [macro_f1]} | f1_macro
c: evaluation: {metrics: [acc]} | accuracy
s: evaluation: {metrics: [rouge]} | rougeL
s: evaluation: {metrics: [em]} | exact_match
s: evaluation: {metrics: [sacrebleu]} | bleu
l: evaluation: {metrics: [ppl]} | perplexity
r: evaluation: {metrics: [pearsonr]} | pearson
r: evaluation: {metrics: [rmse]} | mse
t: evaluation: {metrics: [seqeval]} | f1
i: max_new_tokens: 128 | evaluation.generation.max_new_tokens
i: generation_num_beams: 4 | evaluation.generation.num_beams
i: temperature: 0.7 | greedily
i: num_fewshot: 5 | evaluation.few_shot
c: data: {train: a.csv, columns: {sentence: review}} | text
c: data: {train: a.csv, columns: {labels: stars}} | label
c: data: {train: a.csv, columns: {review: text}} | text: review
i: data: {train: a.csv, columns: {response: r, question: q}} | output/completion
s: data: {train: a.csv, columns: {article: a}} | document
s: data: {train: a.csv, columns: {highlights: h}} | summary
t: data: {train: a.csv, columns: {ner_tags: n}} | tags
c: data: {train: a.csv, columns: {hypothesis: h}} | text_pair
i: data: {train: a.csv, columns: {conversations: c}} | messages
c: learnin_rate: 1e-4 | training.learning_rate
c: use_liger_kernel: true | training
c: enable_liger_kernel: true | speed.liger_kernel
c: input_features: [a] | data.columns
i: functions: [{name: f}] | data.tools
i: data: {train: a.jsonl, tool_definitions: [{name: f}]} | data.tools
i: data: {train: a.jsonl, field_tools: f} | data.columns.tools
i: data: {train: a.jsonl, columns: {functions: f}} | tools
i: data: {train: a.jsonl, columns: {system_prompt: s}} | system
i: data: {train: a.jsonl, columns: {chat_history: h}} | history
i: enable_thinking: true | data.template_arguments: {enable_thinking: true}
i: enable_thinking: false | data.template_arguments: {enable_thinking: false}
i: chat_template_kwargs: {enable_thinking: false} | data.template_arguments
i: thinking: true | data.reasoning: learn
i: thinking: false | data.reasoning: drop
i: remove_thinking: true | data.reasoning: drop
i: train_on_reasoning: false | data.reasoning: show
i: data: {train: a.jsonl, mask_thinking: true} | data.reasoning: show
i: data: {train: a.jsonl, reasoning: false} | drop
i: split_thinking: true | data.reasoning
i: message_field_training: train | data.supervise: marked
i: data: {train: a.jsonl, supervise: weighted} | marked
i: mask_history: false | data.supervise: all
i: last_turn_only: true | data.supervise: last
c: data: {train: a.txt, regex: "(?P<text>.*)"} | data.pattern
c: data: {train: {path: a.txt, line_format: "(?P<text>.*)"}} | data.pattern
c: data: {train: texts, label_from: folder} | data.train
c: data: {train: texts, labels_from: folder} | data.train.label_from
c: infer_labels: true | data.train.label_from: folder
c: data: {train: {path: texts, label_from: directory}} | folder
c: data: {train: a.csv, remove_columns: [score]} | data.ignore_columns
c: data: {train: a.csv, separator: ";"} | data.train
c: data: {train: a.csv, encoding: latin-1} | data.train
c: data: {train: a.csv, duplicates: exact} | data.clean
t: return_overflowing_tokens: true | data.over_long: windows
t: doc_stride: 32 | data.window_overlap
t: chunk_overlap: 32 | data.window_overlap
t: data: {train: a.conll, over_long: truncate} | cut
t: data: {train: a.conll, over_long: sliding_window} | windows
c: data: {train: {path: a.csv, column_mapping: {text: body}}} | columns
c: amp: false | training.bf16: false
"""
# a command line without `ftkit` | what the hint has to name
TYPED = """
finetune my.yaml | ftkit train my.yaml
sft --config my.yaml | ftkit train my.yaml
sft --config 'my first.yaml' | ftkit train 'my first.yaml'
validate 'a b.yaml' | ftkit check 'a b.yaml'
my.yaml | ftkit train my.yaml
'my first.yaml' | ftkit train 'my first.yaml'
tickets.csv | ftkit init tickets.csv
"it's.csv" | ftkit init 'it'"'"'s.csv'
run my.yaml | ftkit train my.yaml
dpo my.yaml | no preference
serve runs/my | ftkit chat
evaluate runs/my | ftkit eval
infer runs/my a.csv | ftkit predict
generate runs/my | ftkit predict
merge-lora runs/my out | ftkit merge
quantize runs/my | ftkit export
validate my.yaml | ftkit check my.yaml
estimate my.yaml | ftkit plan my.yaml
preprocess my.yaml | ftkit preview my.yaml
list | ftkit recipes
webui | ftkit chat
upload runs/my | ftkit push
sweep my.yaml | --strategies
trian my.yaml | ftkit train
train --config my.yaml | ftkit train my.yaml
train my.yaml --lr 2e-5 | training.learning_rate=2e-5
train my.yaml --learning_rate=2e-5 | training.learning_rate=2e-5
train my.yaml --epochs 3 | training.num_train_epochs=3
train my.yaml --per_device_train_batch_size 4 | training.per_device_train_batch_size=4
train my.yaml --batch-size 4 | training.per_device_train_batch_size=4
train my.yaml --model_name_or_path gpt2 | model.name=gpt2
train my.yaml --output out | --output-dir
train my.yaml --output_dir out | --output-dir
train my.yaml --set training.seed=1 | training.seed=1
train my.yaml --training.seed 4 | training.seed=4
train my.yaml --finetuning_type freeze | strategy.name=transfer
train my.yaml --load_in_4bit | strategy.name=qlora
train my.yaml --lora_rank 8 | strategy.r=8
train my.yaml --stage sft | task=instruction
train my.yaml --cutoff_len 512 | model.max_length=512
train my.yaml --max-seq-length 512 | model.max_length=512
train my.yaml --resume_from_checkpoint latest | --resume
train my.yaml --overwrite_output_dir | --overwrite
train my.yaml --gpus 2 | CUDA_VISIBLE_DEVICES
train my.yaml --bf16 | training.bf16=true
train my.yaml --deepspeed ds.json | training.deepspeed=ds.json
check my.yaml --val_size 0.1 | data.eval_size=0.1
plan my.yaml --micro_batch_size 2 | training.per_device_train_batch_size=2
predict runs/my a.csv --output b.jsonl | --out
train my.yaml --enable_thinking false | data.template_arguments
train my.yaml --doc_stride 16 | data.window_overlap=16
train my.yaml --eval_every 5 | training.eval_strategy=steps training.eval_steps=5
"""


def entries(text: str) -> Iterator[tuple[str, list[str]]]:
    for line in text.strip().splitlines():
        written, _, expected = line.rpartition(" | ")
        yield written, expected.split("/") if "runs/" not in expected else [expected]


def hint_on(letter: str, text: str) -> str:
    """Everything that is said of the recipe with what was written, as one text."""
    values = copy.deepcopy(RECIPES[letter]) | parse_value(f"{{{text}}}")
    with pytest.raises(UserError) as caught:
        load_values(values)
    word = re.findall(r"\w+", text)[0]
    said = [line for line in str(caught.value).splitlines() if " is missing; add " not in line]
    about = [line for line in said if f"'{word}'" in line] or said
    return "\n".join(about)


def hint_on_line(line: str) -> str:
    with pytest.raises(UserError) as caught:
        refuse_other_words(at_home(shlex.split(line)), typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    return str(caught.value)


def keys_named(said: str) -> set[str]:
    """The keys of a recipe that a hint tells to write, before it goes on to say what is against that."""
    told = re.findall(r"(?:; it is|; write|did you mean) ([^;?]+)", said.split(", but ")[0])
    return {key.rstrip(".") for text in told for key in re.findall(r"[a-z_]+\.[a-z_.]+", text)}


def is_wrong(said: str, expected: list[str]) -> bool:
    """Whether the hint names keys, and none of them is one that is right."""
    named = keys_named(said)
    return bool(named) and not any(key in right or right in key or right in said for key in named for right in expected)


def test_nineteen_of_twenty_foreign_words_lead_to_the_right_key_and_none_to_a_wrong_one() -> None:
    said = [(hint_on(*written.split(": ", 1)), expected, written) for written, expected in entries(WRITTEN)]
    said += [(hint_on_line(line), expected, line) for line, expected in entries(TYPED)]
    missed = [(written, text) for text, expected, written in said if not any(right in text for right in expected)]
    wrong = [(written, text) for text, expected, written in said if is_wrong(text, expected)]
    assert len(said) >= 120
    assert wrong == []
    assert len(missed) <= 0.05 * len(said), missed


SUGGESTED = re.compile(r"; (?:it is|write|did you mean) (?P<settings>[^;?]+)")


def suggestions(values: dict[str, Any]) -> list[str]:
    """What the hints on a recipe tell to write, as overrides, each without what the loader has against it."""
    found = [match["settings"] for match in SUGGESTED.finditer(all_said(values))]
    return [text for text in found if ", but " not in text and ", which is there" not in text]


def require_loading(values: dict[str, Any], word: str, suggestion: str, written: object) -> None:
    """The recipe has to load with what was suggested in place of the word."""
    kept = {key: value for key, value in values.items() if key != word}
    settings = [part if ": " in part else f"{part}: {written}" for part in suggestion.strip().split(" and ")]
    overrides = [setting.replace(": ", "=", 1) for setting in settings]
    load_values(kept, overrides=[text.lower() if text.endswith(("True", "False")) else text for text in overrides])


@pytest.mark.slow
@pytest.mark.parametrize("letter", ["c", "i", "r", "l"])
def test_every_key_that_is_suggested_is_taken(letter: str) -> None:
    tried = 0
    for word in (word for word in [*KEYS, *CHOICES] if "." not in word):
        for written in (1, 0.5, True, "a", "lora", *CHOICES.get(word, {})):
            values = copy.deepcopy(RECIPES[letter]) | {word: written}
            for suggestion in suggestions(values):
                if "." in suggestion.split(", as ")[0]:  # others are blocks, or the strategy itself
                    require_loading(values, word, suggestion, written)
                    tried += 1
    assert tried > 300


def test_every_role_that_is_suggested_is_taken() -> None:
    tried = 0
    for letter, word in ((letter, word) for letter in "cistrl" for word in COLUMNS):
        values = copy.deepcopy(RECIPES[letter])
        values["data"]["columns"] = {word: "body"}
        for suggestion in suggestions(values):
            values["data"]["columns"] = {suggestion: "body"}
            load_values(values)
            tried += 1
    assert tried > 100


def test_every_metric_that_is_suggested_is_taken() -> None:
    tried = 0
    for letter, word in ((letter, word) for letter in "cistrl" for word in METRICS):
        values = copy.deepcopy(RECIPES[letter]) | {"evaluation": {"metrics": [word]}}
        for suggestion in suggestions(values):
            load_values(values | {"evaluation": {"metrics": [suggestion]}})
            tried += 1
    assert tried > 60


@pytest.mark.parametrize("field", sorted(VALUES))
def test_every_value_that_is_suggested_is_taken(field: str) -> None:
    letters = {"data.over_long": "s", "data.supervise": "i", "data.reasoning": "i"}
    for word, meant in VALUES[field].items():
        if not meant.startswith("!"):
            values = copy.deepcopy(RECIPES["t" if meant == "windows" else letters.get(field, "c")])
            if field == "strategy.name":
                values = RECIPES["c"] | {"strategy": "full"}
            first, *more = meant.split("; ")
            load_values(values, overrides=[f"{field}={first.split()[0]}", *(setting.replace(": ", "=") for setting in more)])
        assert word not in ("", "null")


def test_a_value_is_suggested_only_in_a_task_that_takes_it() -> None:
    tried = 0
    for letter, field in ((letter, field) for letter in "cistrl" for field in VALUES if field.startswith("data.")):
        block = {"data.over_long": "over_long", "data.supervise": "supervise", "data.reasoning": "reasoning"}.get(field)
        for word in VALUES[field] if block else ():
            values = copy.deepcopy(RECIPES[letter])
            values["data"][block] = word
            for suggestion in suggestions(values):
                refused = "has no effect with" in all_said(values)  # the key itself is of another task
                values["data"][block] = suggestion.strip()
                assert refused or not all_said(values), (letter, field, word)
                tried += not refused
    assert tried > 40


def test_no_word_of_the_table_is_a_key_of_its_place() -> None:
    own = {block: {plain(key) for key in model.model_fields} for block, model in {**BLOCKS, "strategy": Lora}.items()}
    own |= {"": {plain(key) for key in Recipe.model_fields}}
    for word in [*KEYS, *ABSENT, *CHOICES]:
        block, _, key = word.rpartition(".")
        assert key not in own.get(block.removeprefix("data.") if block == "data.train" else block, set()), word


def test_no_command_or_option_of_the_table_is_one_of_ftkit() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert not set(map(plain, commands)) & (set(COMMANDS) | set(NO_COMMANDS))
    named = [text.split()[0] for text in COMMANDS.values() if not text.startswith("--")]
    assert set(named) <= set(commands)


def test_tilde_is_the_home_of_the_user() -> None:
    home = str(Path.home())
    assert at_home(["train", "~/a.yaml", "--out=~/x", "data.train=~/b.csv", "model.max_length=~", "a~/b"]) == [
        "train", f"{home}/a.yaml", f"--out={home}/x", f"data.train={home}/b.csv", "model.max_length=~", "a~/b",
    ]  # fmt: skip


PYDANTIC = re.compile(
    r"Input should|instance of|valid dictionary|\b[A-Z]\w+\[|literal\[|function-|\.(str|bool|int|list|dict)\b"
)


def test_no_message_shows_the_inner_names_of_the_schema() -> None:
    for block, model in {**BLOCKS, "strategy": Lora}.items():
        for key in model.model_fields:
            for value in (3, -1, "x y", True, [1], {"a": 1}, [[]], None):
                values = copy.deepcopy(RECIPES["i"])
                values[block] = {**as_block(values.get(block)), key: value}
                said = all_said(values)
                assert not PYDANTIC.search(said), said


def all_said(values: dict[str, Any]) -> str:
    try:
        load_values(values)
    except UserError as error:
        return str(error)
    return ""


def as_block(value: Any) -> dict[str, Any]:
    return {"name": value} if isinstance(value, str) else value or {}
