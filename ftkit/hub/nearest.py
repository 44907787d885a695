"""The id that is meant by one that nobody has: the nearest of those in the cache and of well-known ones."""

import difflib

from ftkit.hub.cache import known_ids
from ftkit.hub.names import Kind, Repository

WELL_KNOWN: dict[Kind, tuple[str, ...]] = {  # the most fetched of those that people fine-tune, for hints alone
    "model": (
        "distilbert/distilbert-base-uncased", "distilbert/distilbert-base-cased", "distilbert/distilroberta-base",
        "distilbert/distilgpt2", "google-bert/bert-base-uncased", "google-bert/bert-base-cased",
        "google-bert/bert-large-uncased", "google-bert/bert-base-multilingual-cased",
        "google-bert/bert-base-german-cased", "FacebookAI/roberta-base", "FacebookAI/roberta-large",
        "FacebookAI/xlm-roberta-base", "FacebookAI/xlm-roberta-large", "microsoft/deberta-v3-base",
        "microsoft/deberta-v3-small", "microsoft/deberta-v3-large", "albert/albert-base-v2",
        "google/electra-base-discriminator", "answerdotai/ModernBERT-base", "answerdotai/ModernBERT-large",
        "openai-community/gpt2", "openai-community/gpt2-medium", "openai-community/gpt2-large", "EleutherAI/pythia-70m",
        "EleutherAI/pythia-160m", "google-t5/t5-small", "google-t5/t5-base", "google/flan-t5-base",
        "google/flan-t5-small", "facebook/bart-base", "facebook/bart-large", "facebook/bart-large-cnn",
        "facebook/opt-125m", "sentence-transformers/all-MiniLM-L6-v2", "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        "HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-360M", "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B-Instruct",
        "Qwen/Qwen3-0.6B", "meta-llama/Llama-2-7b-hf", "meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B-Instruct",
        "meta-llama/Llama-3.1-8B", "mistralai/Mistral-7B-v0.1", "google/gemma-2-2b", "google/gemma-3-1b-it",
        "microsoft/phi-2",
    ),
    "dataset": (
        "stanfordnlp/imdb", "stanfordnlp/sst2", "nyu-mll/glue", "fancyzhx/ag_news", "dair-ai/emotion",
        "Yelp/yelp_review_full", "cornell-movie-review-data/rotten_tomatoes", "PolyAI/banking77", "eriktks/conll2003",
        "abisee/cnn_dailymail", "EdinburghNLP/xsum", "knkarthick/dialogsum", "Salesforce/wikitext",
        "roneneldan/TinyStories", "tatsu-lab/alpaca", "databricks/databricks-dolly-15k", "OpenAssistant/oasst1",
        "rajpurkar/squad", "HuggingFaceH4/ultrachat_200k", "sentence-transformers/stsb", "leondz/wnut_17",
    ),
}  # fmt: skip
CLOSE = 0.75


def nearest_id(repository: Repository) -> str | None:
    """An id like the repository's, also one that has an owner where the repository's has none; None where there is none."""
    ids = sorted({*known_ids(repository.kind), *WELL_KNOWN[repository.kind]} - {repository.name})
    by_words = {name.lower(): name for name in ids}
    near = difflib.get_close_matches(repository.name.lower(), by_words, n=1, cutoff=CLOSE)
    if not near:
        last = {name.rpartition("/")[2]: name for name in by_words}
        near = [last[word] for word in difflib.get_close_matches(_last(repository), last, n=1, cutoff=CLOSE)]
    return by_words[near[0]] if near else None


def _last(repository: Repository) -> str:
    return repository.name.lower().rpartition("/")[2]
