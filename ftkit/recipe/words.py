"""What other tools call things that a recipe calls something else: keys, values, columns, metrics, commands and options.

Words of LLaMA-Factory, Axolotl, TRL, Unsloth, AutoTrain, PEFT, Ludwig, litgpt and of scripts around the Trainer. A place is
a key of the recipe, `key: value`, or several of these parted by `; `; a key alone takes the value that was written. Words
are compared by `plain`, without case and without what parts them. hints.py reads these tables.
"""

import re


def plain(word: object) -> str:
    """A word as it is looked up: `Max-Seq_Length` is `maxseqlength`."""
    return re.sub(r"[^a-z0-9]", "", str(word).lower())


def _table(entries: dict[str, str]) -> dict[str, str]:
    """One entry for each of the words that stand before a place, parted by spaces."""
    return {".".join(map(plain, word.split("."))): place for words, place in entries.items() for word in words.split()}


# A word that means something else within a block stands as block.word.
KEYS = _table({
    "base_model model_name_or_path model_name model_id model_path pretrained_model_name_or_path pretrained_model checkpoint "
    "checkpoint_dir hf_model model_checkpoint base_model_name base_model_id model.path model.id model.model "
    "model.model_name "
    "model.base": "model.name",
    "cutoff_len max_seq_length max_seq_len sequence_len sequence_length seq_len seq_length block_size "
    "model_max_length max_len "
    "max_source_length max_input_length context_length global_max_sequence_length max_context_length "
    "max_position_embeddings "
    "window_size window_length chunk_size chunk_length "
    "max_model_len max_token_length training.max_length data.max_length data.max_len": "model.max_length",
    "model_revision": "model.revision",
    "tokenizer_name tokenizer_path tokenizer_name_or_path processing_class tokenizer_config tokenizer_id": "model.tokenizer",
    "torch_dtype model_dtype": "model.dtype",
    "flash_attn attn_impl attention_implementation attn_kernel attention": "model.attn_implementation",
    "use_flash_attention_2 use_flash_attn use_flash_attention": "model.attn_implementation: flash_attention_2",
    "sdp_attention": "model.attn_implementation: sdpa",
    "allow_remote_code remote_code": "model.trust_remote_code",
    "finetuning_type adapter peft_type peft_method finetune_type tuning_type training_method finetuning_method train_type "
    "tuner strategy.type strategy.method strategy.kind strategy.finetuning_type strategy.adapter": "strategy.name",
    "lora_rank lora_r lora_dim peft_lora_r rank adapter_rank lora_attention_dim": "strategy.r",
    "peft_lora_alpha strategy.alpha strategy.scaling": "strategy.lora_alpha",
    "peft_lora_dropout strategy.dropout": "strategy.lora_dropout",
    "lora_target lora_target_modules lora_modules peft_target_modules target_layers strategy.modules strategy.target "
    "strategy.layers": "strategy.target_modules",
    "lora_target_linear": "strategy.target_modules: all-linear",
    "lora_modules_to_save additional_target peft_modules_to_save": "strategy.modules_to_save",
    "peft_use_dora lora_use_dora dora": "strategy.use_dora",
    "peft_use_rslora lora_use_rslora rslora": "strategy.use_rslora",
    "lora_fan_in_fan_out": "strategy.fan_in_fan_out",
    "peft_init_lora_weights lora_init": "strategy.init_lora_weights",
    "pissa_init": "strategy.init_lora_weights: pissa",
    "lora_layers_to_transform peft_layers_to_transform": "strategy.layers_to_transform",
    "use_peft use_lora": "strategy.name: lora",
    "load_in_4bit use_4bit use_qlora int4 four_bit bnb_4bit quantize_4bit": "strategy.name: qlora",
    "freeze_backbone freeze_body freeze_encoder freeze_base_model freeze_base train_head_only head_only feature_extraction "
    "linear_probing": "strategy.name: transfer",
    "full_finetuning full_finetune": "strategy.name: full",
    "freeze_trainable_layers unfreeze_layers unfreeze_last_n strategy.unfreeze "
    "num_trainable_layers": "strategy.unfreeze_last",
    "lora peft peft_config lora_config lora_args peft_args": "strategy",
    "dataset datasets train_file train_files train_data training_data train_dataset dataset_name data_path dataset_path "
    "train_path training_file data_files data_file dataset_id dataset_name_or_path input_file pretraining_dataset data.path "
    "data.dataset data.datasets data.files data.file data.source data.name data.train_file data.training": "data.train",
    "validation_file eval_dataset eval_file test_datasets val_data validation_data validation_dataset valid_file val_file "
    "dev_file eval_path data.validation data.valid data.val data.dev data.evaluation": "data.eval",
    "test_file test_dataset test_data test_path": "data.test",
    "val_size val_set_size validation_split validation_size val_split val_ratio validation_ratio eval_ratio dev_size "
    "test_split_size eval_split_ratio split_dataset_ratio valid_size data.eval_split data.dev_split": "data.eval_size",
    "max_samples max_train_samples num_samples sample_size n_samples max_rows train_samples num_train_samples "
    "data.rows data.limit": "data.train.rows",
    "max_eval_samples max_val_samples num_eval_samples eval_samples eval_limit": "evaluation.rows",
    "dataset_text_field text_column text_field text_col text_column_name sentence_column": "data.columns.text",
    "label_column label_field target_column labels_column label_column_name label_col target_col": "data.columns.label",
    "prompt_column prompt_text_column prompt_field": "data.columns.prompt",
    "completion_column completion_field": "data.columns.completion",
    "tools_column tools_field field_tools functions_column": "data.columns.tools",
    "system_column field_system": "data.columns.system",
    "history_column field_history": "data.columns.history",
    "field_messages messages_column messages_field conversations_column": "data.columns.messages",
    "field_instruction instruction_column": "data.columns.instruction",
    "field_output output_column": "data.columns.output",
    "summary_column": "data.columns.summary",
    "document_column": "data.columns.document",
    "tags_column tags_column_name": "data.columns.tags",
    "tokens_column words_column tokens_column_name": "data.columns.tokens",
    "column_mapping columns_mapping remap_columns column_names data.features data.column data.mapping": "data.columns",
    "dataset_config dataset_config_name dataset_subset config_name subset": "data.train.name",
    "dataset_split train_split train_on_split": "data.train.split",
    "sample_packing multipack pack neat_packing use_packing sequence_packing": "data.packing",
    "truncation_strategy excess_length_strategy long_sequence_strategy": "data.over_long",
    "dedup deduplicate remove_duplicates dataset_exact_deduplication drop_duplicates": "data.clean.duplicates: exact",
    "label_list class_names classes id2label label2id": "data.labels",
    "pos_label positive_class target_class": "data.positive_label",
    "label_delimiter multilabel_separator": "data.label_separator",
    "stratify_by group_by": "data.group_column",
    "prompt_template": "data.prompt",
    "mask_history last_turn_only only_last_turn train_on_last_turn train_last_turn_only": "data.supervise: last",
    "functions function_definitions tool_definitions available_tools tool_list tools_list": "data.tools",
    "thinking keep_thinking preserve_thinking include_thinking reasoning_content keep_reasoning "
    "include_reasoning": "data.reasoning",
    "strip_thinking remove_thinking drop_thinking strip_reasoning remove_reasoning drop_reasoning": "data.reasoning: drop",
    "mask_thinking mask_reasoning": "data.reasoning: show",
    "regex regexp line_regex line_pattern line_format parse_regex": "data.pattern",
    "labels_from label_source infer_label_from": "data.train.label_from",
    "label_from_folder labels_from_folder folder_labels infer_labels class_from_folder": "data.train.label_from: folder",
    "chat_template_kwargs template_kwargs chat_template_args template_args extra_template_args": "data.template_arguments",
    "enable_thinking": "data.template_arguments",
    "doc_stride stride chunk_overlap overlap_tokens overlap_size": "data.window_overlap",
    "return_overflowing_tokens windows split_long split_long_rows": "data.over_long: windows",
    "drop_columns drop_cols ignored_columns excluded_columns exclude_columns remove_columns skip_columns columns_to_ignore "
    "columns_to_remove unused_columns": "data.ignore_columns",
    "micro_batch_size batch_size train_batch_size per_gpu_train_batch_size per_device_batch_size minibatch_size "
    "mini_batch_size": "training.per_device_train_batch_size",
    "global_batch_size total_batch_size total_train_batch_size": "training.per_device_train_batch_size: auto; "
    "training.effective_batch_size",
    "auto_batch_size find_batch_size": "training.per_device_train_batch_size: auto",
    "eval_batch_size val_batch_size test_batch_size per_gpu_eval_batch_size": "training.per_device_eval_batch_size",
    "num_epochs epochs max_epochs n_epochs epoch num_train_epoch train_epochs nb_epochs": "training.num_train_epochs",
    "max_train_steps total_steps num_steps train_steps num_training_steps max_iters n_steps "
    "iterations": "training.max_steps",
    "lr base_learning_rate peak_lr max_lr": "training.learning_rate",
    "lr_scheduler scheduler lr_schedule learning_rate_scheduler scheduler_type schedule": "training.lr_scheduler_type",
    "warmup warmup_ratio num_warmup_steps lr_warmup_steps warmup_proportion warmup_fraction": "training.warmup_steps",
    "optimizer optimizer_name optimizer_type": "training.optim",
    "wd l2 l2_regularization": "training.weight_decay",
    "gradient_accumulation grad_accum grad_accum_steps accumulate_grad_batches grad_accumulation_steps accumulation_steps":
        "training.gradient_accumulation_steps",
    "gradient_clipping max_norm clip_grad_norm grad_clip gradient_clip_val clip_grad gradient_clip":
        "training.max_grad_norm",
    "gradient_checkpointing use_gradient_checkpointing grad_checkpointing": "training.activation_checkpointing",
    "gradient_checkpointing_kwargs": "training.activation_checkpointing_kwargs",
    "label_smoothing": "training.label_smoothing_factor",
    "noisy_embedding_alpha neftune_alpha neftune": "training.neftune_noise_alpha",
    "evaluation_strategy eval_schedule": "training.eval_strategy",
    "eval_every eval_frequency eval_interval eval_freq val_every evaluate_every": "training.eval_strategy: steps; "
    "training.eval_steps",
    "save_every save_freq save_interval checkpoint_every checkpoint_interval save_frequency":
        "training.save_strategy: steps; training.save_steps",
    "log_every log_every_n_steps logging_freq log_interval log_steps": "training.logging_steps",
    "keep_last_n max_checkpoints save_total keep_checkpoints": "training.save_total_limit",
    "wandb_project use_wandb wandb": "training.report_to: wandb",
    "use_tensorboard tensorboard": "training.report_to: tensorboard",
    "use_mlflow mlflow mlflow_tracking_uri": "training.report_to: mlflow",
    "group_by_length length_grouping": "training.train_sampling_strategy: group_by_length",
    "adafactor": "training.optim: adafactor",
    "num_workers dataloader_workers workers": "training.dataloader_num_workers",
    "deepspeed_config": "training.deepspeed",
    "compile": "training.torch_compile",
    "best_metric monitor": "training.metric_for_best_model",
    "save_best load_best restore_best": "training.load_best_model_at_end",
    "random_seed rng_seed seed": "training.seed",
    "trainer training_args training_arguments hyperparameters hparams args optimization": "training",
    "use_liger enable_liger_kernel liger": "speed.liger_kernel",
    "metric eval_metric eval_metrics metric_name metric_names metrics_to_compute": "evaluation.metrics",
    "compute_metrics custom_metric metric_script": "evaluation.metric_file",
    "max_new_tokens generation_max_length max_gen_length generation_max_new_tokens max_generate_length "
    "val_max_target_length "
    "evaluation.max_tokens": "evaluation.generation.max_new_tokens",
    "num_beams generation_num_beams beam_size beams": "evaluation.generation.num_beams",
    "num_fewshot n_shot shots fewshot": "evaluation.few_shot",
    "verify_model": "evaluation.verify",
    "stage training_stage": "task",
    "sft supervised_finetuning": "task: instruction",
    "mlm": "task: masked-language-modeling",
})  # fmt: skip

# Where the value that was written says what is meant.
_DTYPES = {"bf16": "training.bf16: true", "bfloat16": "training.bf16: true", "fp16": "training.fp16: true"}
CHOICES: dict[str, dict[str, str]] = {  # by the plain word, then by the plain value
    "quantizationbit": {"4": "strategy.name: qlora"},
    "quantbits": {"4": "strategy.name: qlora"},
    "quantization": {"4bit": "strategy.name: qlora", "int4": "strategy.name: qlora", "nf4": "strategy.name: qlora"},
    "quantize": {"bnbnf4": "strategy.name: qlora", "4bit": "strategy.name: qlora"},
    "mixedprecision": {**_DTYPES, "no": "training.bf16: false"},
    "precision": {
        **_DTYPES, "bf16true": "training.bf16: true", "bf16mixed": "training.bf16: true", "16mixed": "training.fp16: true",
        "16": "training.fp16: true",
    },
    "amp": {"true": "training.bf16: true", "false": "training.bf16: false"},
    "enablethinking": {
        value: f"data.template_arguments: {{enable_thinking: {value}}}" for value in ("true", "false")
    },
    "trainonreasoning": {"true": "data.reasoning: learn", "false": "data.reasoning: show"},
    "trainonthinking": {"true": "data.reasoning: learn", "false": "data.reasoning: show"},
    "maskhistory": {"true": "data.supervise: last", "false": "data.supervise: all"},
    "template": {"alpaca": "data.chat_template: alpaca", "chatml": "data.chat_template: chatml"},
    "log": {"wandb": "training.report_to: wandb", "tensorboard": "training.report_to: tensorboard"},
    "problemtype": {
        "multilabelclassification": "task: text-classification", "singlelabelclassification": "task: text-classification",
        "regression": "task: text-regression",
    },
    "tasktype": {
        "seqcls": "task: text-classification", "tokencls": "task: token-classification", "causallm": "task: instruction",
        "seq2seqlm": "task: summarization", "regression": "task: text-regression",
    },
}  # fmt: skip

_NO_PREFERENCE = "ftkit has no preference or reinforcement learning"
_NO_DISTRIBUTION = "CUDA_VISIBLE_DEVICES in the environment says which GPU is used"
_ANSWERS_ALONE = "of prompts and chats only answers are learnt, always; data.supervise says which turns of a chat"
_CACHED = "rows are encoded once and kept in the cache, which FTKIT_CACHE and HF_HOME place"
_COMMAND_LINE = "say it on the command line: --output-dir"
# What has no key: said as it is.
ABSENT = _table({
    "dpo orpo kto simpo grpo ppo rlhf rl beta pref_beta pref_loss pref_ftx dpo_beta kto_beta loss_type ref_model "
    "reference_model reward_model reward_funcs num_generations kl_coef dpo_label_smoothing max_prompt_length "
    "max_completion_length desirable_weight undesirable_weight rm": _NO_PREFERENCE,
    "load_in_8bit use_8bit int8": "ftkit has no 8-bit base; strategy: qlora takes a base in 4 bits",
    "quantization_bit quant_bits quantization quantize": "ftkit quantizes to 4 bits alone: strategy: qlora",
    "bnb_4bit_quant_type bnb_4bit_compute_dtype bnb_4bit_use_double_quant use_nested_quant bnb_config quantization_config "
    "quantization_method double_quantization bnb_4bit_quant_storage": "strategy: qlora is NF4 with double quantization",
    "loraplus_lr_ratio loraplus_lr_embedding use_galore use_badam use_apollo galore_rank lisa_n_layers relora_steps "
    "use_llama_pro": "ftkit has no such variant; optimizers of the library are named in training.optim",
    "unfrozen_parameters freeze_extra_modules freeze_trainable_modules freeze_layers_regex freeze_parameters":
        "ftkit freezes whole blocks: strategy: transfer, with unfreeze_last",
    "train_on_inputs train_on_prompt mask_prompt completion_only_loss assistant_only_loss train_on_completions "
    "train_on_responses_only response_template instruction_template train_on_eos train_on_input mask_inputs":
        _ANSWERS_ALONE,
    "tool_format function_calling": "tools are read from a column of that name, or from data.tools",
    "roles_to_train": "data.supervise says which turns of the assistant are learnt",
    "message_field_training message_field_training_detail message_field_weight turn_weight":
        "a turn that is not learnt says so of itself by weight: 0 or train: false, as data.supervise: marked takes it",
    "message_property_mappings": "turns are read under role and content, or from and value: leave it out",
    "thought_words split_thinking reasoning_column thinking_column field_thinking": "a turn's reasoning is read from its "
    "reasoning_content, or between <think> and </think>; data.reasoning says what becomes of it",
    "default_system system_prompt system system_message": "put it into the rows as a first turn of role system, or into "
    "data.prompt",
    "template": "the tokenizer's own chat template is taken; data.chat_template takes another, as Jinja text, alpaca "
    "or chatml",
    "dataset_dir dataset_info media_dir": "data.train takes the path of the file itself",
    "formatting dataset_format data_format data.train.type data.type data.format data.train.conversation":
        "the form of the rows follows from their columns: data.columns names them",
    "preprocessing_num_workers dataset_num_proc dataset_processes dataset_prepared_path overwrite_cache "
    "preprocessing_batch_size tokenized_path cache_dir num_proc": _CACHED,
    "num_labels num_classes": "it follows from the labels in the data; data.labels gives them an order",
    "multi_label multilabel": "with several labels in a cell say what parts them: data.label_separator",
    "problem_type": "it follows from the task",
    "padding padding_side pad_to_max_length pad_to_sequence_len pad_token truncation truncation_side special_tokens "
    "add_eos_token add_bos_token resize_token_embeddings": "ftkit pads, cuts and ends rows itself",
    "max_target_length val_max_length": "answers are never cut; model.max_length is of a whole row",
    "mlm_probability masking_ratio whole_word_mask": "the task masked-language-modeling hides 15 % of the tokens",
    "shuffle shuffle_data shuffle_dataset": "training rows are always shuffled, by training.seed",
    "train_size train_ratio": "what data.eval_size leaves is trained on",
    "early_stopping early_stopping_patience patience early_stopping_threshold": "ftkit does not stop early; "
    "training.load_best_model_at_end keeps the best checkpoint",
    "class_weights class_weight label_weights loss loss_fn loss_function focal_loss compute_loss_func":
        "the task has its own loss; data.clean.balance gives each label as many rows",
    "evals_per_epoch saves_per_epoch": "training.eval_steps and training.save_steps below 1 are shares of all steps",
    "device device_map gpus num_gpus n_gpu devices num_processes nproc_per_node num_nodes gpu gpu_ids accelerator backend "
    "accelerate_config ddp world_size": _NO_DISTRIBUTION,
    "no_cuda cpu": "CUDA_VISIBLE_DEVICES= in the environment keeps it on the CPU",
    "use_unsloth unsloth use_kernels": "what makes it fast is on by itself, and listed under speed",
    "out_dir save_dir output run_dir project_name output_path save_path output_folder results_dir": _COMMAND_LINE,
    "overwrite_output_dir": "say it on the command line: --overwrite",
    "resume": "say it on the command line: --resume",
    "hub_repo repo_id token hf_token username": "put the finished run on the hub: ftkit push RUN OWNER/NAME",
    "predict_with_generate": "answers are always generated where the task has some: evaluation.generation",
    "temperature top_p top_k do_sample repetition_penalty": "answers are generated greedily, or by "
    "evaluation.generation.num_beams",
    "benchmarks benchmark lm_eval_tasks eval_tasks": "ask for them when the run is done: ftkit eval RUN --benchmarks",
    "plugins gradio verbose log_level_console debug_mode wandb_entity wandb_watch wandb_log_model wandb_run_id wandb_name "
    "plot_loss include_effective_tokens_per_second": "nothing here answers to it: leave it out",
    "input_features output_features preprocessing": "data.columns names the columns, and data.clean the steps",
    "image_column image_folder images videos audios processor vision freeze_vision_tower": "ftkit trains on text alone",
    "teacher teacher_model distillation": "ftkit has no distillation",
    "dropout attention_dropout hidden_dropout": "a model's own dropout is that of its config; of adapters it is "
    "strategy.lora_dropout",
})  # fmt: skip

# Values of a key: what other tools call them, and, as `!sentence`, what there is not.
_NO_TASK = "!ftkit has no such task"
VALUES: dict[str, dict[str, str]] = {
    "task": _table({
        "ner named_entity_recognition pos pos_tagging chunking tagging token_cls token_classifier sequence_labeling "
        "sequence_tagging bio entities sequence_labelling slot_filling": "token-classification",
        "sft instruct instruction_tuning instruction_following chat chatbot dialogue conversational finetuning assistant "
        "llm_sft llm supervised_fine_tuning prompt_completion alpaca sharegpt completion_only tool_calling": "instruction",
        "mlm masked_lm fill_mask masked_language_model masked bert_pretraining": "masked-language-modeling",
        "clm lm causal_lm causal pretrain pretraining pt continued_pretraining cpt continual_pretraining language_model "
        "completion domain_adaptation causal_language_modeling llm_generic": "language-modeling",
        "classification sequence_classification seq_cls sentiment sentiment_analysis text_cls classifier topic intent "
        "text_binary_classification text_multi_class_classification multilabel multi_label multi_label_classification "
        "multiclass binary_classification nli sentence_pair_classification spam": "text-classification",
        "regression sts similarity rating text_single_column_regression scoring text_scoring sequence_regression "
        "semantic_similarity": "text-regression",
        "summarisation summary summarize abstractive_summarization dialogue_summarization": "summarization",
    }) | _table({
        "dpo orpo kto simpo ppo grpo rlhf rl rm reward reward_modeling llm_dpo llm_orpo llm_reward cpo rloo ipo":
            "!" + _NO_PREFERENCE,
        "question_answering qa extractive_qa squad extractive_question_answering": "!ftkit has no extractive question "
        "answering; answers that are written are task: instruction",
        "translation seq2seq text2text text2text_generation": "!ftkit has no task of that name; an answer that is "
        "written to a text is task: instruction, or summarization for models with encoder and decoder",
        "text_generation generation": "!say whether rows have an answer (task: instruction) or are plain text "
        "(task: language-modeling)",
        "embedding embeddings sentence_transformers reranking reranker retrieval image_classification vision vlm asr tts "
        "multiple_choice image_text_to_text tabular object_detection text_to_image": _NO_TASK,
    }),
    "strategy.name": _table({
        "head head_only linear_probe linear_probing feature_extraction frozen freeze frozen_body last_layer top_layers "
        "classifier_only transfer_learning": "transfer",
        "peft adapter adapters low_rank lora_plus": "lora",
        "4bit qlora4bit bnb bitsandbytes int4 nf4 quantized lora4bit": "qlora",
        "fft finetune fine_tune fine_tuning finetuning full_finetuning full_finetune full_fine_tuning fullparameter all "
        "none all_weights": "full",
        "best choose automatic": "auto",
        "dora": "lora; strategy.use_dora: true",
        "rslora": "lora; strategy.use_rslora: true",
        "pissa": "lora; strategy.init_lora_weights: pissa",
    }) | _table({
        "8bit int8 lora8bit": "!ftkit has no 8-bit base; strategy: qlora takes a base in 4 bits",
        "ia3 prefix prefix_tuning prompt_tuning p_tuning adalora vera oft boft loha lokr reft bitfit galore adapter_v2 "
        "relora "
        "llama_pro": "!ftkit has no such strategy",
        "dpo kto orpo ppo grpo": "!" + _NO_PREFERENCE,
        "sft": "!that is a task, instruction; a strategy says which weights learn",
    }),
    "model.dtype": _table({
        "bf16 torch_bfloat16": "bfloat16", "fp32 float full torch_float32": "float32",
        "fp16 float16 half torch_float16": "!ftkit rests no weights in float16; training.fp16: true trains in it",
        "auto": "!leave model.dtype out for float32",
    }),
    "model.attn_implementation": _table({
        "fa2 flash flash_attn flash_attention flashattention flash_attn_2 true": "flash_attention_2", "disabled": "eager",
        "torch": "sdpa",
    }),
    "training.optim": _table({
        "adam adamw adam_w adamw_hf torch_adamw": "adamw_torch", "adamw_fused": "adamw_torch_fused",
        "adam8bit adam_8bit adamw8bit": "adamw_8bit", "paged_adamw paged_adam": "paged_adamw_32bit", "lion": "lion_32bit",
    }),
    "training.lr_scheduler_type": _table({
        "cosine_annealing cosine_decay cosineannealinglr": "cosine", "linear_decay linear_warmup": "linear",
        "wsd": "warmup_stable_decay", "none fixed": "constant", "plateau": "reduce_lr_on_plateau",
        "cosine_restarts": "cosine_with_restarts",
    }),
    "training.eval_strategy": _table({"none false never off": "no", "step": "steps", "epochs": "epoch"}),
    "training.save_strategy": _table({"none false never off": "no", "step": "steps", "epochs": "epoch"}),
    "training.logging_strategy": _table({"none false never off": "no", "step": "steps", "epochs": "epoch"}),
    "data.over_long": _table({
        "truncate truncation truncate_left truncate_right": "cut_prompt cut", "delete skip remove": "drop",
        "sliding_window chunk chunks split overflow strided": "windows",
    }),
    "data.clean.duplicates": _table({"fuzzy minhash near_duplicates": "near", "normalized": "normalised", "true": "exact"}),
    "data.train.format": _table({
        "jsonl ndjson json_lines": "json", "txt plain": "text", "ner bio conll2003 iob": "conll", "pq": "parquet",
        "alpaca sharegpt openai chat chat_template completion messages": "!the form of the rows follows from their columns: "
        "leave format out",
        "excel xlsx xls arrow feather": "!ftkit reads no such files: save them as csv or parquet",
    }),
    "data.supervise": _table({
        "assistant turns all_turns every": "all", "last_turn final turn": "last",
        "weight weighted weights train trainable flagged default": "marked",
    }),
    "data.reasoning": _table({
        "true train keep": "learn", "mask hide context prompt input": "show",
        "false none off no remove strip ignore": "drop",
    }),
    "data.train.label_from": _table({"directory dir parent subfolder": "folder", "filename name stem": "file"}),
    "strategy.target_modules": _table({"all all_linear linear auto": "all-linear"}),
    "strategy.bias": _table({"no false": "none", "lora": "lora_only"}),
}  # fmt: skip

# Roles that a column may have, the likeliest first; the first that the task has is meant.
COLUMNS = _table({
    "sentence review content body message comment sentence1 premise text1 text_a texts source tweet utterance "
    "input_text post":
        "text document prompt instruction",
    "sentence2 hypothesis text2 text_b pair second_text": "text_pair",
    "labels category class target tag classes y intent sentiment score rating stars": "label tags output summary",
    "question query user user_input task human problem": "instruction prompt text",
    "answer response reply target_text chosen gpt assistant solution generation answers": "output completion summary label",
    "context": "input document",
    "system_prompt system_message": "system",
    "functions available_tools tool_definitions": "tools",
    "chat_history past_turns": "history",
    "inputs": "input prompt text",
    "outputs": "output completion",
    "conversations conversation dialog chat turns dialogue_turns": "messages",
    "article dialogue passage meeting transcript report long_text": "document text",
    "highlights abstract tldr summaries headline": "summary",
    "words word tokens_list forms": "tokens",
    "ner_tags pos_tags ner entities bio_tags tag_list iob_tags": "tags",
    "completions": "completion output",
    "prompts": "prompt instruction",
    "instructions": "instruction prompt",
})  # fmt: skip

# Metrics under other names, the likeliest first; the first that the task has is meant.
METRICS = _table({
    "acc balanced_accuracy_score accuracy_score token_accuracy eval_accuracy": "accuracy",
    "mcc matthews matthews_corrcoef phi": "matthews_correlation",
    "auc auroc rocauc roc_auc_score": "roc_auc",
    "macro_f1 f1macro": "f1_macro", "micro_f1": "f1_micro f1", "weighted_f1": "f1_weighted",
    "f1_score fscore f_measure seqeval entity_f1": "f1 token_f1",
    "precision_score": "precision", "recall_score sensitivity": "recall",
    "macro_precision": "precision_macro", "macro_recall": "recall_macro",
    "ece expected_calibration_error": "calibration_error",
    "mean_squared_error": "mse", "rmse": "mse", "mean_absolute_error": "mae", "r_squared r2_score": "r2",
    "pearsonr pearson_correlation": "pearson", "spearmanr spearman_correlation": "spearman",
    "rouge rouge_l rouge_score": "rougeL", "rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_lsum": "rougeLsum",
    "sacrebleu bleu_4 bleu4 bleu_score": "bleu", "chrf++ chrfpp": "chrf",
    "em exact exactmatch": "exact_match",
    "squad squad_v2": "exact_match",
    "ppl": "perplexity", "bpb bits_per_character bpc": "bits_per_byte",
    "eval_loss cross_entropy nll log_loss": "loss",
})  # fmt: skip

# Commands of other tools, and other words for ftkit's own.
COMMANDS = _table({
    "finetune fine-tune sft tune run fit lora qlora pretrain pt start launch train-lora llm": "train FILE.yaml",
    "resume continue": "train FILE.yaml --resume",
    "evaluate test score measure": "eval RUN",
    "bench benchmark benchmarks lm-eval lm_eval harness": "eval RUN --benchmarks arc_easy,hellaswag",
    "infer inference generate run-inference": "predict RUN FILE",
    "talk converse cli webchat": "chat RUN",
    "merge-lora merge_lora merge_and_unload fuse merge-adapter merge_lora_weights": "merge RUN FOLDER",
    "convert onnx save quantize convert_to_litgpt": "export RUN FOLDER",
    "env doctor-env info diagnose sysinfo": "doctor",
    "ps status jobs history": "runs",
    "reproduce replay repeat": "rerun RUN",
    "validate lint dry-run dryrun verify-config": "check FILE.yaml",
    "estimate profile memory cost vram estimate-memory": "plan FILE.yaml",
    "show inspect debug preprocess view tokenize": "preview FILE.yaml",
    "new create quickstart template config setup cp copy": "init NAME",
    "list ls models examples templates": "recipes",
    "diff versus": "compare RUN RUN",
    "card html": "report RUN",
    "upload push-to-hub hub publish share": "push RUN OWNER/NAME",
    "datagen synthesize augment distill data-gen": "synth SEEDS --output FILE --rows N --model MODEL",
    "help": "--help", "version": "--version",
})  # fmt: skip
NO_COMMANDS = _table({
    "dpo kto orpo ppo grpo rlhf rm reward rloo": _NO_PREFERENCE,
    "serve api server webui ui gui app studio vllm-serve deploy": "ftkit serves nothing: give the folder of `ftkit "
    "merge` to a "
    "server, or talk to a run with ftkit chat RUN",
    "login": "log in with `hf auth login`",
    "download": "`hf download` fetches a model; ftkit does so by itself when a recipe names it",
    "sweep hpo search tune-hyperparameters": "ftkit has no search; ftkit compare FILE.yaml --strategies full,lora "
    "trains several",
})  # fmt: skip

# Options that other tools have on the command line, where no key of a recipe is meant.
OPTIONS = _table({
    "config recipe config_file cfg yaml file conf": "give the recipe as a word of its own: ftkit {command} FILE.yaml",
    "set override overrides opt param": "write keys of the recipe as they are: training.seed=1",
    "output output_path out_dir save_dir output_folder run_dir save_path project_name": "write --output-dir FOLDER",
    "resume_from_checkpoint resume_from continue restart": "write --resume, and the run's --output-dir if it has one "
    "of its own",
    "force overwrite_output_dir yes clobber exist_ok": "write --overwrite",
    "dry_run validate_only": "ftkit check FILE.yaml finds what is wrong without training",
    "silent verbose_off no_progress": "write --quiet",
    "max_samples max_train_samples num_samples max_rows sample": "write --limit N",
    "test tiny demo": "write --smoke for a tiny stand-in and sample data",
})  # fmt: skip
