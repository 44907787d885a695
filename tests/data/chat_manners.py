"""Chat templates in the manners of many models, each written for the tests, and what each leaves out."""

HEAD = "{% for m in messages %}<|{{ m.role }}|>\n"
OPEN = "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
TOOLS = "{% if tools %}<tools>{{ tools | tojson }}</tools>\n{% endif %}"
THOUGHT = "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
CALLS = "{% for c in m.tool_calls or [] %}<call>{{ c.function | tojson }}</call>{% endfor %}"
END = "{{ eos_token }}\n"

WHOLE = TOOLS + HEAD + THOUGHT + "{{ m.content }}" + CALLS + END + "{% endfor %}" + OPEN
NO_CALLS = WHOLE.replace(CALLS, "")
NO_TOOLS = WHOLE.replace(TOOLS, "")
NO_THOUGHT = WHOLE.replace(THOUGHT, "")
NO_SYSTEM = TOOLS + "{% for m in messages if m.role != 'system' %}<|{{ m.role }}|>\n" + WHOLE.partition(HEAD)[2]

# Thinking of turns before the last question is dropped; tools and all else as Qwen's have it.
LATEST_THOUGHT = (
    "{% set ns = namespace(last=-1) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}" + TOOLS + HEAD
    + "{% set text = m.content.split('</think>')[-1].lstrip('\n') if m.role == 'assistant' else m.content %}"
    "{% set thought = m.reasoning_content or "
    "(m.content.split('</think>')[0].split('<think>')[-1] if '</think>' in m.content else '') %}"
    "{% if m.role == 'assistant' and loop.index0 > ns.last and (loop.last or thought) %}"
    "<think>\n{{ thought.strip('\n') }}\n</think>\n\n{% endif %}{{ text }}" + CALLS + END + "{% endfor %}" + OPEN
    + "{% if add_generation_prompt and enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
)  # fmt: skip
# Llama 3: headers, an added end token, arguments under `parameters`, the results of tools through tojson.
LLAMA_3 = (
    "{{ bos_token }}{% if tools %}{{ tools | tojson(indent=4) }}{% endif %}"
    "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.reasoning or '' }}"
    "{% if m.tool_calls %}"
    '{"name": "{{ m.tool_calls[0].function.name }}", "parameters": {{ m.tool_calls[0].function.arguments | tojson }}}'
    "{% elif m.role == 'tool' %}{{ m.content | tojson }}{% else %}{{ m.content | trim }}{% endif %}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
# Mistral: tools before the last question alone, so that earlier answers are rewritten; no opening of an answer.
MISTRAL = (
    "{{ bos_token }}{% set users = messages | selectattr('role', 'equalto', 'user') | list %}{% for m in messages %}"
    "{% if m.role == 'user' %}{% if tools and m == users[-1] %}[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]"
    "{% endif %}[INST] {{ m.content }}[/INST]{% elif m.role == 'system' %}[SYS] {{ m.content }}[/SYS]"
    "{% elif m.tool_calls %}[TOOL_CALLS] [{% for c in m.tool_calls %}{{ c.function | tojson }}{% endfor %}]{{ eos_token }}"
    "{% elif m.role == 'tool' %}[TOOL_RESULTS] {{ m.content }}[/TOOL_RESULTS]"
    "{% else %}{{ m.thinking or '' }} {{ m.content | trim }}{{ eos_token }}{% endif %}{% endfor %}"
)
# DeepSeek: calls where there is no content, their arguments put together with text.
DEEPSEEK = (
    "{{ bos_token }}" + TOOLS + "{% for m in messages %}<|{{ m.role }}|>{{ m.reasoning_content or '' }}"
    "{% if m.content is not defined %}{% for c in m.tool_calls %}"
    "{{ 'call ' + c.function.name + '\n```json\n' + c.function.arguments + '\n```' }}{% endfor %}"
    "{% else %}{{ m.content }}{% endif %}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# Arguments by ~, which writes an object as Python does.
BY_TILDE = WHOLE.replace("{{ c.function | tojson }}", "{{ c.function.name ~ ' ' ~ c.function.arguments }}")
# Qwen-Coder: a tag a parameter, values that are no text through tojson.
XML = WHOLE.replace(
    "{{ c.function | tojson }}",
    "{{ c.function.name }}{% for k, v in c.function.arguments.items() %}<{{ k }}>\n"
    "{{ v if v is string else v | tojson }}\n</{{ k }}>{% endfor %}",
)
# Gemma: no system role, the assistant is called model.
GEMMA = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}"
    "<start>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<start>model\n{% endif %}"
)

MANNERS = {
    "whole": WHOLE, "no calls": NO_CALLS, "no tools": NO_TOOLS, "no thought": NO_THOUGHT, "no system": NO_SYSTEM,
    "latest thought": LATEST_THOUGHT, "llama 3": LLAMA_3, "mistral": MISTRAL, "deepseek": DEEPSEEK, "tilde": BY_TILDE,
    "xml": XML, "gemma": GEMMA, "chatml": "chatml", "alpaca": "alpaca",
}  # fmt: skip
# Which fields each leaves no token of; a template may fail instead, as Gemma's on a system prompt.
LEAVES_OUT = {
    "no calls": {"tool_calls"}, "no tools": {"tools"}, "no thought": {"reasoning"}, "no system": {"system"},
    "gemma": {"tool_calls", "tools", "reasoning", "system"}, "alpaca": {"tool_calls", "tools", "reasoning"},
}  # fmt: skip
