"""Templates and contexts for jinja_test.py. Chat templates here are our own, in the manner of the
model families that they are named after."""

CHAT = {
    "chatml": (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
        "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "llama2": (
        "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
        "{% set system_message = messages[0]['content'] %}{% else %}"
        "{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
        "{% for message in loop_messages %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate user/assistant/...') }}{% endif %}"
        "{% if loop.index0 == 0 and system_message != false %}"
        "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
        "{% else %}{% set content = message['content'] %}{% endif %}"
        "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}"
        "{% endif %}{% endfor %}"
    ),
    "llama3": (
        "{{- bos_token }}\n"
        "{%- if custom_tools is defined %}\n    {%- set tools = custom_tools %}\n{%- endif %}\n"
        "{%- if not date_string is defined %}\n"
        "    {%- if strftime_now is defined %}\n"
        '        {%- set date_string = strftime_now("%d %b %Y") %}\n'
        '    {%- else %}\n        {%- set date_string = "26 Jul 2024" %}\n    {%- endif %}\n'
        "{%- endif %}\n"
        "{%- if not tools is defined %}\n    {%- set tools = none %}\n{%- endif %}\n\n"
        "{#- The system message goes into its slot. #}\n"
        "{%- if messages[0]['role'] == 'system' %}\n"
        "    {%- set system_message = messages[0]['content']|trim %}\n"
        "    {%- set messages = messages[1:] %}\n"
        '{%- else %}\n    {%- set system_message = "" %}\n{%- endif %}\n\n'
        '{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}\n'
        '{{- "Cutting Knowledge Date: December 2023\\n" }}\n'
        '{{- "Today Date: " + date_string + "\\n\\n" }}\n'
        "{%- if tools is not none %}\n"
        "    {%- for t in tools %}\n        {{- t | tojson(indent=4) }}\n"
        '        {{- "\\n\\n" }}\n    {%- endfor %}\n{%- endif %}\n'
        '{{- system_message }}\n{{- "<|eot_id|>" }}\n'
        "{%- for message in messages %}\n"
        "    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}\n"
        "        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ "
        "message['content'] | trim + '<|eot_id|>' }}\n"
        "    {%- elif 'tool_calls' in message %}\n"
        "        {%- if not message.tool_calls|length == 1 %}\n"
        '            {{- raise_exception("one call at a time") }}\n        {%- endif %}\n'
        "        {%- set tool_call = message.tool_calls[0].function %}\n"
        "        {{- '{\"name\": \"' + tool_call.name + '\", \"parameters\": ' }}\n"
        "        {{- tool_call.arguments | tojson }}\n"
        '        {{- "}" }}\n'
        '        {{- "<|eot_id|>" }}\n'
        '    {%- elif message.role == "tool" or message.role == "ipython" %}\n'
        '        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}\n'
        "        {%- if message.content is mapping or message.content is iterable %}\n"
        "            {{- message.content | tojson }}\n"
        "        {%- else %}\n            {{- message.content }}\n        {%- endif %}\n"
        '        {{- "<|eot_id|>" }}\n    {%- endif %}\n{%- endfor %}\n'
        "{%- if add_generation_prompt %}\n"
        "    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n"
    ),
    "mistral": (
        '{%- if messages[0]["role"] == "system" %}\n'
        '    {%- set system_message = messages[0]["content"] %}\n'
        "    {%- set loop_messages = messages[1:] %}\n"
        "{%- else %}\n    {%- set loop_messages = messages %}\n{%- endif %}\n"
        '{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}\n'
        "{%- set ns = namespace(index=0) %}\n"
        "{%- for message in loop_messages %}\n"
        '    {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}\n'
        '        {{- raise_exception("user and assistant must alternate") }}\n    {%- endif %}\n'
        "    {%- set ns.index = ns.index + 1 %}\n{%- endfor %}\n"
        "{{- bos_token }}\n"
        "{%- for message in loop_messages %}\n"
        '    {%- if message["role"] == "user" %}\n'
        "        {%- if loop.last and system_message is defined %}\n"
        '            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}\n'
        '        {%- else %}\n            {{- "[INST] " + message["content"] + "[/INST]" }}\n'
        "        {%- endif %}\n"
        '    {%- elif message["role"] == "assistant" %}\n'
        '        {{- " " + message["content"]|trim + eos_token}}\n'
        '    {%- else %}\n        {{- raise_exception("no role " + message["role"]) }}\n'
        "    {%- endif %}\n{%- endfor %}\n"
    ),
    "qwen2": (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
        "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "qwen25": (
        "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n"
        "    {%- if messages[0]['role'] == 'system' %}\n        {{- messages[0]['content'] }}\n"
        "    {%- else %}\n        {{- 'You are a helpful assistant.' }}\n    {%- endif %}\n"
        '    {{- "\\n\\n# Tools\\n\\n<tools>" }}\n'
        '    {%- for tool in tools %}\n        {{- "\\n" }}\n        {{- tool | tojson }}\n'
        "    {%- endfor %}\n"
        '    {{- "\\n</tools>{\\"name\\": <function-name>}<|im_end|>\\n" }}\n'
        "{%- else %}\n    {%- if messages[0]['role'] == 'system' %}\n"
        "        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}\n"
        "    {%- else %}\n"
        "        {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}\n"
        "    {%- endif %}\n{%- endif %}\n"
        "{%- for message in messages %}\n"
        '    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or '
        '(message.role == "assistant" and not message.tool_calls) %}\n'
        "        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n"
        '    {%- elif message.role == "assistant" %}\n'
        "        {{- '<|im_start|>' + message.role }}\n"
        "        {%- if message.content %}\n            {{- '\\n' + message.content }}\n        {%- endif %}\n"
        "        {%- for tool_call in message.tool_calls %}\n"
        "            {%- if tool_call.function is defined %}\n"
        "                {%- set tool_call = tool_call.function %}\n            {%- endif %}\n"
        "            {{- '\\n<tool_call>\\n{\"name\": \"' }}\n            {{- tool_call.name }}\n"
        "            {{- '\", \"arguments\": ' }}\n            {{- tool_call.arguments | tojson }}\n"
        "            {{- '}\\n</tool_call>' }}\n        {%- endfor %}\n"
        "        {{- '<|im_end|>\\n' }}\n"
        '    {%- elif message.role == "tool" %}\n'
        '        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}\n'
        "            {{- '<|im_start|>user' }}\n        {%- endif %}\n"
        "        {{- '\\n<tool_response>\\n' }}\n        {{- message.content }}\n"
        "        {{- '\\n</tool_response>' }}\n"
        '        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}\n'
        "            {{- '<|im_end|>\\n' }}\n        {%- endif %}\n"
        "    {%- endif %}\n{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n"
    ),
    "qwen3": (
        "{%- if messages[0].role == 'system' %}\n"
        "    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}\n{%- endif %}\n"
        "{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}\n"
        "{%- for message in messages[::-1] %}\n"
        "    {%- set index = (messages|length - 1) - loop.index0 %}\n"
        '    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and '
        "not(message.content.startswith('<tool_response>') and "
        "message.content.endswith('</tool_response>')) %}\n"
        "        {%- set ns.multi_step_tool = false %}\n"
        "        {%- set ns.last_query_index = index %}\n    {%- endif %}\n{%- endfor %}\n"
        "{%- for message in messages %}\n"
        "    {%- if message.content is string %}\n        {%- set content = message.content %}\n"
        "    {%- else %}\n        {%- set content = '' %}\n    {%- endif %}\n"
        '    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}\n'
        "        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}\n"
        '    {%- elif message.role == "assistant" %}\n'
        "        {%- set reasoning_content = '' %}\n"
        "        {%- if message.reasoning_content is string %}\n"
        "            {%- set reasoning_content = message.reasoning_content %}\n"
        "        {%- else %}\n            {%- if '</think>' in content %}\n"
        "                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n')"
        ".split('<think>')[-1].lstrip('\\n') %}\n"
        "                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}\n"
        "            {%- endif %}\n        {%- endif %}\n"
        "        {%- if loop.index0 > ns.last_query_index %}\n"
        "            {%- if loop.last or (not loop.last and reasoning_content) %}\n"
        "                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + "
        "reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}\n"
        "            {%- else %}\n"
        "                {{- '<|im_start|>' + message.role + '\\n' + content }}\n"
        "            {%- endif %}\n        {%- else %}\n"
        "            {{- '<|im_start|>' + message.role + '\\n' + content }}\n        {%- endif %}\n"
        "        {{- '<|im_end|>\\n' }}\n    {%- endif %}\n{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n"
        "    {%- if enable_thinking is defined and enable_thinking is false %}\n"
        "        {{- '<think>\\n\\n</think>\\n\\n' }}\n    {%- endif %}\n{%- endif %}"
    ),
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for message in messages %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}"
        "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
        "{% else %}{% set role = message['role'] %}{% endif %}"
        "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
    ),
    "gemma3": (
        "{{ bos_token }}\n{%- if messages[0]['role'] == 'system' -%}\n"
        "    {%- if messages[0]['content'] is string -%}\n"
        "        {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}\n"
        "    {%- else -%}\n"
        "        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' -%}\n"
        "    {%- endif -%}\n    {%- set loop_messages = messages[1:] -%}\n"
        '{%- else -%}\n    {%- set first_user_prefix = "" -%}\n'
        "    {%- set loop_messages = messages -%}\n{%- endif -%}\n"
        "{%- for message in loop_messages -%}\n"
        "    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}\n"
        '        {{ raise_exception("roles must alternate") }}\n    {%- endif -%}\n'
        "    {%- if (message['role'] == 'assistant') -%}\n"
        '        {%- set role = "model" -%}\n    {%- else -%}\n'
        "        {%- set role = message['role'] -%}\n    {%- endif -%}\n"
        "    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else \"\") }}\n"
        "    {%- if message['content'] is string -%}\n        {{ message['content'] | trim }}\n"
        "    {%- elif message['content'] is iterable -%}\n"
        "        {%- for item in message['content'] -%}\n"
        "            {%- if item['type'] == 'image' -%}\n                {{ '<start_of_image>' }}\n"
        "            {%- elif item['type'] == 'text' -%}\n"
        "                {{ item['text'] | trim }}\n            {%- endif -%}\n"
        "        {%- endfor -%}\n    {%- else -%}\n"
        '        {{ raise_exception("Invalid content type") }}\n    {%- endif -%}\n'
        "    {{ '<end_of_turn>\n' }}\n{%- endfor -%}\n"
        "{%- if add_generation_prompt -%}\n    {{'<start_of_turn>model\n'}}\n{%- endif -%}\n"
    ),
    "phi3": (
        "{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}"
        "{{'<|system|>\n' + message['content'] + '<|end|>\n'}}"
        "{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
        "{% elif message['role'] == 'assistant' %}"
        "{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
    ),
    "phi4": (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' ~ m['content'] ~ '<|end|>' }}"
        "{% endfor %}{{ '<|assistant|>' if add_generation_prompt else eos_token }}"
    ),
    "zephyr": (
        "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
        "{{ '<|user|>\n' + message['content'] + eos_token }}\n"
        "{% elif message['role'] == 'system' %}\n"
        "{{ '<|system|>\n' + message['content'] + eos_token }}\n"
        "{% elif message['role'] == 'assistant' %}\n"
        "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
        "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
    ),
    "generation": (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
        "{{ eos_token }}{% endgeneration %}{% else %}\n  {{ m.role }}: {{ m.content }}\n{% endif %}"
        "{% endfor %}"
    ),
    "macros": (
        "{%- macro turn(role, content='', end='<end>') -%}\n[{{ role|upper }}]{{ content }}{{ end }}\n"
        "{%- endmacro -%}\n"
        "{%- for m in messages if m.role != 'system' %}{% if loop.index > 3 %}{% break %}{% endif %}\n"
        "{%- if m.content is not string %}{% continue %}{% endif %}"
        "{{ turn(m.role, content=m.content, end='\\n') }}{% endfor %}{{ turn('eof') }}"
    ),
}

_USER = {"role": "user", "content": "  Hello, <|im_end|> wörld! \n"}
_ASSISTANT = {"role": "assistant", "content": " Hi.\n\n  "}
_SYSTEM = {"role": "system", "content": "Be 'terse' and \"kind\".\n"}
_THINK = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nAnswer"}
_CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"function": {"arguments": {"city": "Zürich", "n": 3}, "name": "weather"}}],
}
_TOOL = {"role": "tool", "content": "22 °C"}
_PARTS = {"role": "user", "content": [{"text": " look ", "type": "text"}, {"type": "image"}]}

CONVERSATIONS = [
    [_USER],
    [_SYSTEM, _USER],
    [_USER, _ASSISTANT, _USER],
    [_SYSTEM, _USER, _ASSISTANT, _USER, _THINK, _USER],
    [_USER, _THINK],
    [_USER, _USER],
    [_ASSISTANT],
    [_SYSTEM],
    [_USER, _CALL, _TOOL, _TOOL, _ASSISTANT],
    [_PARTS],
    [{"role": "user", "content": "日本語 👍🏽 \u2028 {{ x }} {% if %}"}],
    [{"role": "critic", "content": "?"}],
    [{"role": "user"}],
]

TOOLS = [{"function": {"description": "It's \"<b>\"", "name": "weather", "parameters": {"a": [1, 2.5, None, True]}}}]

CONTEXT = {
    "x": 5,
    "y": -3,
    "f": 2.5,
    "s": "Hello World",
    "t": " \t padded\n ",
    "u": "Straße ÇA ǆ ΟΔΟΣ",
    "e": "",
    "n": None,
    "yes": True,
    "no": False,
    "l": [3, 1, 2],
    "m": ["b", "A", "c", "a"],
    "d": {"a": 1, "b": {"c": [10, 20]}, "items2": 7},
    "people": [
        {"age": 30, "name": "Ann", "tags": ["x"]},
        {"age": 25, "name": "bob", "tags": []},
        {"age": 30, "name": "Cid"},
    ],
    "lines": "one\ntwo\r\nthree\n\nfive\n",
}

# Expressions that either print something or fail; each is also tried inside {% if %}.
EXPRESSIONS = """
1 + 2 * 3 - 4 // 3 ** 2
2 ** 3 ** 2
-2 ** 2
-x
+x
- - x
7 // 2
-7 // 2
7 // -2
-7 % 3
7 % -3
7.5 % 2
-7.5 % 2
-7.5 // 2
7 / 2
6 / 3
2 ** -1
2 ** 0.5
1 / 0
1 % 0
1 // 0
1.0 / 0
1e3
1e16
1e15
1.5e-5
0.0001
0.00001
123456789012345680.0
1_000_000
0x1F + 0o17 + 0b11
1.0
-0.0
0.1 + 0.2
1e400
true + 1
true
none
None
True and False
1 == 1.0
true == 1
'1' == 1
[1, 2] == [1, 2]
[1, 2] == (1, 2)
{'a': 1} == {'a': 1.0}
1 < 2 < 3
1 < 3 < 2
3 > 2 >= 2 != 1
'a' < 'b'
'a' < 1
[1] < [2]
(1, 'a') < (1, 'b')
none < 1
nothing < 1
nothing == nothing
nothing == none
nothing != 1
x in l
3 in l
3 not in l
'ell' in s
'' in e
1 in 'abc'
'a' in d
'z' in d
'z' not in d
[1] in d
1 in nothing
1 in 5
not x
not not e
x and y
e or 'fallback'
none or false
x or nothing.attr
e and nothing.attr
'a' 'b' "c"
'it''s'
"a\\nb\\tc\\\\d\\'e\\"f"
'\\x41\\u00e9\\U0001F600\\101\\q'
'a' ~ 1 ~ none ~ 2.0 ~ [1, 'x'] ~ nothing
'a' + 'b'
'a' + 1
1 + 'a'
'a' * 3
3 * 'ab'
'a' * -1
[1, 2] + [3]
[1] * 3
(1,) + (2,)
[1] + (2,)
[1, 'a', none, true, 1.5, [], {}, ()]
(1,)
()
(1)
{'a': 1, 'b': [2], 3: none}
{'a': 1, 'a': 2}
{[1]: 2}
['it\\'s', "say \\"hi\\"", 'both \\' and "', 'tab\\t', 'nl\\n', 'é', '\\x07', '\\\\']
s[0]
s[-1]
s[99]
s[99] is defined
s[1:4]
s[:-1]
s[::-1]
s[::2]
s[8:2:-2]
s[-3:]
s[5:2]
u[2:6]
l[0]
l[-1]
l[10]
l[1:]
l[::-1]
l[:1:-1]
l[0:10:2]
l[::0]
l['a']
l.0
l.5
d.a
d['a']
d.b.c[1]
d.b.c.1
d.zzz
d.zzz.y
d['zzz']['y']
d.items2
d.items is callable
d['items'] is callable
nothing
nothing.x
nothing['x']
nothing()
none.x
none.x.y
x.y
x.y.z
x()
s()
'x' if yes else 'y'
'x' if no else 'y'
'x' if no
('x' if no) is defined
1 if no else 2 if no else 3
'a' if yes if no else 'b'
x is defined
nothing is defined
nothing is undefined
nothing is not defined
not nothing is defined
d.zzz is defined
n is none
x is none
n is not none
s is string
x is string
x is number
f is number
yes is number
s is number
x is integer
yes is integer
f is float
d is mapping
l is mapping
l is iterable
s is iterable
x is iterable
nothing is iterable
l is sequence
d is sequence
x is sequence
yes is boolean
x is boolean
yes is true
no is false
x is true
1 is true
x is odd
4 is even
s is even
f is even
x is divisibleby 5
x is divisibleby(2)
x is equalto 5
x is eq(5)
x is ne 5
x is sameas 5
x is lt 6
x is ge(5)
x is gt 'a'
3 is in [1, 2, 3]
x is in l
x is unknowntest
range is callable
s is callable
x is odd is true
s|upper
s|lower
u|upper
u|lower
u|title
u|capitalize
s|title
"hello-world (foo) [bar] they're o'neil"|title
"they're o'neil ǆ x1y"|capitalize
s|length
u|length
l|length
d|length
nothing|length
x|length
l|count
t|trim
'xxabcxx'|trim('x')
nothing|trim
none|trim
x|trim
s|replace('o', '0')
s|replace('o', '0', 1)
s|replace('', '-')
'aaa'|replace('', '-', 2)
x|replace('5', '6')
l|join
l|join(', ')
l|join(1)
people|join(', ', attribute='name')
s|join('-')
nothing|join(',')
x|join(',')
nothing|default('d')
nothing|default
e|default('d')
e|default('d', true)
e|default('d', boolean=true)
n|default('d')
d.zzz|default(d.a)
nothing.x|default('d')
l|first
l|last
[]|first
[]|last
s|first
s|last
d|first
x|first
'abc'|list
d|list
nothing|list
x|list
range(3)|list
l|reverse|list
s|reverse
l|sort
m|sort
m|sort(case_sensitive=true)
m|sort(reverse=true)
l|sort(true)
people|sort(attribute='age')|map(attribute='name')|join(',')
people|sort(attribute='name', reverse=true)|map(attribute='name')|join(',')
[1, 'a']|sort
[3, 1.5, true]|sort
['a', 'A', 'b', 'a']|unique|list
people|unique(attribute='age')|map(attribute='name')|list
l|min
l|max
m|min
m|max
[]|min
people|min(attribute='age')
l|sum
people|sum(attribute='age')
people|map(attribute='name')|list
people|map(attribute='tags.0')|list
people|map(attribute='tags.0', default='none')|list
people|map(attribute='zzz', default=0)|list
m|map('upper')|list
m|map('replace', 'a', 'z')|join
m|map('nofilter')|list
l|map|list
people|selectattr('age', 'equalto', 30)|map(attribute='name')|join(',')
people|selectattr('tags')|map(attribute='name')|join(',')
people|selectattr('tags', 'defined')|list|length
people|rejectattr('age', 'gt', 26)|map(attribute='name')|join(',')
people|rejectattr('tags', 'undefined')|map(attribute='name')|list
l|select('odd')|list
l|reject('odd')|list
l|select|list
[0, 1, '']|reject|list
l|select('gt', 1)|list
d|items|list
nothing|items|list
l|items|list
x|string
f|string
nothing|string
l|string
'42'|int
' 42 '|int
'4_2'|int
'4__2'|int
'-7'|int
'+7'|int
'+-7'|int
'3.9'|int
'abc'|int
'abc'|int(7)
'abc'|int(default=8)
'ff'|int(base=16)
'0xff'|int(0, 16)
'1e3'|int
f|int
-2.7|int
n|int
l|int
nothing|int
'3.5'|float
'1e3'|float
'inf'|float
'x'|float
'x'|float(1.5)
x|float
n|float
x|abs
y|abs
(-2.5)|abs
-5|abs
s|abs
2.5|round
3.5|round
42.55|round(1)
42.45|round(1)
2.675|round(2)
x|round
42.5|round(0, 'ceil')
42.51|round(1, 'floor')
42.5|round(method='floor')
-2.5|round
s|round
s|safe
'<a href="x">&\\''|e
'<b>'|escape
s|tojson
'é<>&\\'"\\\\/\\n\\t\\x07\\x7f\\u2028'|tojson
'é😀'|tojson(ensure_ascii=true)
x|tojson
f|tojson
n|tojson
yes|tojson
l|tojson
d|tojson
d|tojson(indent=2)
[]|tojson(indent=2)
{}|tojson(indent=4)
[[], {}]|tojson(indent=1)
people|tojson(indent=4)
d|tojson(separators=(',', ':'))
d|tojson(indent=2, separators=(', ', ' = '))
{'b': 1, 'a': 2}|tojson
{'b': 1, 'a': 2}|tojson(sort_keys=true)
{1: 'a', none: 2, true: 3, 1.5: 4}|tojson
(1, 2)|tojson
nothing|tojson
range|tojson
lines|indent
lines|indent(2)
lines|indent(2, true)
lines|indent(2, first=true, blank=true)
lines|indent('> ')
''|indent(3, true)
s|nofilter
s|upper|lower|title
s | replace("l", "L") | length + 1
-x|abs
(x|string) ~ 'a'
s.upper()
s.lower()
u.title()
u.capitalize()
"they're bill's ﬁne ǆ ß"|upper
"they're bill's x1y éa".title()
'ßx'.capitalize()
'ß'.upper()
t.strip()
t.lstrip()
t.rstrip()
'xyabcyx'.strip('xy')
'xyabcyx'.lstrip('xy')
'xyabcyx'.rstrip('xy')
'\\u00a0 a \\u3000\\x1f'.strip() + '|'
s.split()
s.split(' ')
s.split('o')
s.split('o', 1)
s.split(none, 1)
'a  b c '.split(none, 1)
'  a  b  '.split()
' a  b '.split(' ')
'a,b,,c,'.split(',')
'a,b,c'.rsplit(',', 1)
'a,b,c'.rsplit(',')
'abc'.split('')
''.split()
''.split(',')
'a</think>b</think>c'.split('</think>')[-1]
lines.splitlines()
s.startswith('Hell')
s.endswith('ld')
s.startswith(('x', 'H'))
s.endswith(('x', 'y'))
s.startswith(1)
s.startswith('')
s.replace('l', 'L')
s.replace('l', 'L', 2)
s.replace('', '.')
s.removeprefix('Hello ')
s.removesuffix('x')
s.find('o')
s.find('zz')
u.find('Ç')
s.count('l')
s.count('')
','.join(m)
','.join(l)
'-'.join('abc')
s.nomethod()
s.nomethod
s.__class__
d.keys()|list
d.values()|list
d.items()|list
d.get('a')
d.get('zzz')
d.get('zzz', 9)
d.get('b').get('c')
d.get([])
d.get()
range(5)|list
range(2, 5)|list
range(5, 0, -2)|list
range(0)|list
range(1, 2, 0)|list
range(1000000)|list
range('a')
range()
range(3)[1]
range(3)|length
dict(a=1, b=2)
dict({'a': 1}, b=2)
dict([('a', 1)])
dict(1)
namespace(a=1).a
namespace().zzz
raise_exception('boom')
raise_exception()
strftime_now('%Y-%m-%d %H:%M')
strftime_now('%d %b %Y')
l.append(4)
d.update({'a': 2})
s.upper(1)
s|upper(1)
s|trim(chars='H')
(x
x)
[1, 2
{'a' 1}
x +
+ 
1 2
a b
'unclosed
x ! y
x ? y
x..y
x.
x[
x[]
|upper
s|
x is
x is not
not
in l
l[1:2:3:4]
f(x=1, 2)
dict(a=1, a=2)
{'a': 1}.a
[1, 2, 3][1]
(1, 2)[0]
'abc'[1]
x, y
x,
s[1.5]
s[yes]
l[no]
l[none]
"é"[0] ~ "日本"[1]
loop
loop.index
messages|length
x == 5 and y == -3 or no
x == 5 or nothing.x.y
not x == 5
not (x == 5)
(x, y) == (5, -3)
1 if x > 3 and y < 0 else 2
[x, y]|map('abs')|sum
-7 // 2 * 2 + -7 % 2
1 - 1 - 1
2 * 3 % 4
10 / 4 / 2
9223372036854775807
9223372036854775807 + 1
'%s' % x
namespace(a=namespace())
dict(**d)
x[]
'a' ~ 'b' + 'c'
1 + 2 ~ 3
1 ~ 2 * 3
"a" == "a" == true
x|default(1)|string + 'z'
(s|length) > 5
s|length > 5
s | length | string | length
""" .strip("\n").split("\n")

# Whole templates: statements, scopes, white space.
TEMPLATES = [
    "",
    "plain",
    "plain\n",
    "plain\n\n",
    "a\r\nb\rc\r\n",
    "{{ x }}\n",
    "{{ x }}\n\n{{ y }}",
    "{% if yes %}\nA\n{% endif %}\nB\n",
    "  {% if yes %}\n  A\n  {% endif %}\n  B",
    "x  {% if yes %}  \n  A\n  {% endif %}  \n  B",
    "  {%+ if yes %}\n  A\n  {%+ endif %}\n  B",
    "{% if yes +%}\nA\n{% endif +%}\nB",
    "a \n {%- if yes -%} \n b \n {%- endif -%} \n c",
    "a \n {{- x -}} \n c",
    "a \n {{ x }} \n c",
    "  {{ x }}",
    "a {# comment #} b",
    "a\n  {# comment #}\nb",
    "a\n  {#- comment -#}\n  b",
    "a\n  {# multi\nline {{ }} {% %} #}\n  b",
    "{#+ c +#}\nb",
    "{# unclosed",
    "{##}x{#-#}y",
    "a {%- if yes %}b{% endif %}",
    "\u00a0 {% if yes %}\u00a0\n{% endif %}",
    "a\u3000{%- if yes -%}\u2003b{% endif %}",
    "\t{% set z = 1 %}\t\n{{ z }}",
    "{% set z = 1 %}{% set w = 2 %}\n{{ z + w }}",
    "{% raw %}{{ x }} {% if %}{% endraw %}",
    "{% raw -%}  a  {%- endraw %}  b",
    "  {% raw %}\n a\n  {% endraw %}\nb",
    "{%- raw -%}\n a\n  {%- endraw -%}\nb",
    "{% raw %}unclosed",
    "{% raw %}a{% endraw %}{% raw %}b{% endraw %}",
    "{% if yes %}a{% else %}b{% endif %}",
    "{% if no %}a{% elif x == 5 %}b{% elif y %}c{% else %}d{% endif %}",
    "{% if no %}a{% elif no %}b{% else %}d{% endif %}",
    "{% if x %}",
    "{% endif %}",
    "{% if %}a{% endif %}",
    "{% if yes %}a{% else %}b{% else %}c{% endif %}",
    "{% if yes %}a{% endfor %}",
    "{% else %}",
    "{% for i in l %}{{ i }},{% endfor %}",
    "{% for i in l %}{{ loop.index }}/{{ loop.length }}:{{ loop.index0 }} {{ loop.first }} {{ loop.last }} "
    "{{ loop.revindex }} {{ loop.revindex0 }} {{ loop.previtem }} {{ loop.nextitem }};{% endfor %}",
    "{% for i in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{% endfor %}",
    "{% for i in [] %}a{% else %}empty{% endfor %}",
    "{% for i in l %}a{% else %}empty{% endfor %}",
    "{% for i in l if i > 1 %}{{ loop.index }}:{{ i }} {% else %}none{% endfor %}",
    "{% for i in l if i > 9 %}{{ i }}{% else %}none{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d|items %}{{ k }}={{ v }};{% endfor %}",
    "{% for (k, v) in [(1, 2), [3, 4]] %}{{ k }}-{{ v }};{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}",
    "{% for a, b in [1] %}{{ a }}{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}",
    "{% for c in s %}{{ c }}.{% endfor %}",
    "{% for c in u %}{{ c }}.{% endfor %}",
    "{% for i in nothing %}a{% else %}e{% endfor %}",
    "{% for i in x %}a{% endfor %}",
    "{% for i in none %}a{% endfor %}",
    "{% for i in 1, 2, 3 %}{{ i }}{% endfor %}",
    "{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in range(3) %}{% for j in range(3) %}{% if j == 1 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% endfor %}",
    "{% break %}",
    "{% for i in l %}{% for j in l %}{{ loop.index }}{% endfor %}{{ loop.index }} {% endfor %}",
    "{% for i in l %}{% set outer = loop %}{% for j in l %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{% set z = 0 %}{% for i in l %}{% set z = z + i %}{{ z }} {% endfor %}{{ z }}",
    "{% set z = 0 %}{% if yes %}{% set z = 5 %}{% endif %}{{ z }}",
    "{% for i in l %}{% set q = i %}{% endfor %}{{ q is defined }}",
    "{% for i in l %}{% endfor %}{{ i is defined }}{{ loop is defined }}",
    "{% set x = 9 %}{{ x }}",
    "{% set ns = namespace(v=0) %}{% for i in l %}{% set ns.v = ns.v + i %}{% endfor %}{{ ns.v }}",
    "{% set ns = namespace() %}{% set ns.a = 'b' %}{{ ns.a }}{{ ns.zz }}{{ ns.zz is defined }}",
    "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a + ns.b }}",
    "{% set d.a = 5 %}{{ d.a }}",
    "{% set nothing.a = 5 %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set (a, b) = (1, 2) %}{{ a }}{{ b }}",
    "{% set a, b = 1 %}",
    "{% set a, b = l %}",
    "{% set a = 1, 2 %}{{ a }}",
    "{% set a %}block {{ x }}{% endset %}{{ a }}!{{ a is string }}",
    "{% set a | upper | replace('B', 'x') %}block {{ s }}{% endset %}{{ a }}",
    "{% set a %}{% set inner = 1 %}{% endset %}{{ inner is defined }}",
    "{% set a %}",
    "{% set true = 1 %}",
    "{% set 1 = 2 %}",
    "{% set a == 2 %}",
    "{% set a = %}",
    "{% macro f(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ f(1) }} {{ f(1, 3) }} {{ f(b=5, a=4) }} {{ f() }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(b=2) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, a=2) }}",
    "{% macro f(a=1, b) %}{{ a }}{% endmacro %}",
    "{% macro f() %}{{ x }}{% endmacro %}{% for i in l %}{{ f() }}{% endfor %}",
    "{% macro f() %}{{ i }}{% endmacro %}{% for i in l %}{{ f() }}{% endfor %}",
    "{% macro f(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(5) }}",
    "{% macro f() %}  <b>  {% endmacro %}{{ f()|trim ~ '!' }}{{ f() | length }}",
    "{% macro f() %}a{% endmacro %}{% set z = f() %}{{ z + 'b' }}{{ z is string }}",
    "{% macro f() %}{% set q = 1 %}{{ q }}{% endmacro %}{{ f() }}{{ q is defined }}",
    "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}",
    "{% with %}{% set a = 1 %}{{ a }}{% endwith %}{{ a is defined }}",
    "{% with x = 1, z = x %}{{ z }}{% endwith %}",
    "{% filter upper %}a{{ s }}{% endfilter %}",
    "{% filter upper | replace('A', 'b') %}a{{ s }}{% endfilter %}",
    "{% generation %}a{{ x }}{% endgeneration %}b",
    "{% generation %}\n  a\n{% endgeneration %}\nb",
    "{% include 'x' %}",
    "{% extends 'x' %}",
    "{% import 'x' as y %}",
    "{% unknown %}",
    "{% 1 %}",
    "{% %}",
    "{{ }}",
    "{{ x",
    "{% if x",
    "{{ x }",
    "{{ {'a': {'b': 1}} }}",
    "{{ {'a': {'b': {}}}}}",
    "{{ '}}' }} {{ '%}' }} {{ '{{' }}",
    "{% if '%}' == '%}' %}a{% endif %}",
    "{ { x } } {x} { {% if yes %}{{ '{' }}{% endif %}",
    "{{ x }}{{ y }}{{ f }}",
    "{{\n  x\n  +\n  y\n}}",
    "{%\n  if\n  yes\n%}a{%\nendif\n%}",
    "{%-if yes-%}a{%-endif-%}",
    "{{-x-}}",
    "{{ -x }}{{- -x }}",
    "{{ x -}}  \n\n  b",
    "{{ 1 -}}\n  {% if yes %}a{% endif %}",
    "a{{- 1 }}\n  {%- if yes %}\n  a\n  {%- endif %}\n",
    "{% for i in l %}\n  {{ i }}\n{% endfor %}\n",
    "{% for i in l -%}\n  {{ i }}\n{%- endfor %}\n",
    "{% for i in l %}\n  {%- if loop.first %}\n    F\n  {%- else %}\n    N\n  {%- endif %}\n{% endfor %}",
    "{% for p in people recursive %}{% endfor %}",
    "{% for i in l %}{% macro f() %}{% endmacro %}{% endfor %}",
    "{% for p in people %}{{ p.name }}{{ ', ' if not loop.last }}{% endfor %}",
    "{% for p in people|sort(attribute='age') %}{{ p.name }}({{ p.tags|default([])|join }}) {% endfor %}",
    "{{ people[0].name }} {{ people[-1]['age'] }} {{ people[5].name is defined }}",
    "{% set a = [1, 2] %}{% set a = a + [3] %}{{ a }}",
    "{% set a = {} %}{{ a }}{{ a or 'x' }}",
    "{{ d }}",
    "{{ people }}",
    "{{ [nothing] }}",
    "{{ ('a', ) }} {{ ('a', 'b') }} {{ [('a',)] }}",
    "{{ [1.0, 1e20, 0.1, -0.0, true, none] }}",
    "{% if nothing %}a{% else %}b{% endif %}",
    "{% if nothing.x %}a{% else %}b{% endif %}",
    "{% if no and nothing.x.y %}a{% else %}b{% endif %}",
    "{{ x }}{{ nothing.x.y }}",
    "{% set z = nothing %}{{ z is defined }}[{{ z }}]",
    "{{ caller }}",
    "{{ range(3) | map('string') | join('-') }}",
    "{{ 'a' if nothing is defined else 'b' }}",
    "{{ not yes }}{{ not no }}",
    "line\n{% if yes %}\n\n\nx\n\n\n{% endif %}\nend",
    "{% if yes %}\r\nA\r\n{% endif %}\r\nB\r\n",
    "tab\there{{ '\t' }}\n",
    "{{ \"multi\nline\" }}",
    "{{ 'a\\\nb' }}",
    "ünïcödé {{ u }} 日本 {{ '語' }}",
    "{{ é }}",
    "{% set é = 1 %}{{ é }}",
    "{{ _x is defined }}{% set _x = 1 %}{{ _x }}",
]

# Fragments of which random templates are made to try white space control.
FRAGMENTS = [
    "{% if yes %}", "{%- if yes %}", "{% if yes -%}", "{%- if yes -%}", "{%+ if yes %}", "{% if yes +%}",
    "{% if no %}", "{%- if no -%}", "{% endif %}", "{%- endif %}", "{% endif -%}", "{%- endif -%}",
    "{%+ endif %}", "{% endif +%}", "{{ x }}", "{{- x }}", "{{ x -}}", "{{- x -}}", "{# c #}",
    "{#- c #}", "{# c -#}", "{#+ c #}", "{# c +#}", "a", "b ", " c", "\n", "\n\n", " ", "  ", "\t",
    " \n ", "{% set q = 1 %}", "{%- set q = 1 -%}", "\u00a0", "\r\n", "{% raw %} r {% endraw %}",
    "{%- raw -%} r {%- endraw -%}", "{% else %}", "{%- else -%}",
]  # fmt: skip

# Atoms and forms (each @ is an expression) of which random expressions are made.
ATOMS = (
    "x y f s t e n yes no l m d people nothing 0 1 2 -1 3 1.5 'a' 'ell' '' none true [] {} () [1,2,3] ['b','a'] "
    "(1,2) {'a':1} d.a d.b people[0].name l[0] s[1] u x.y"
).split(" ")  # fmt: skip
FORMS = (
    "@ + @|@ - @|@ * @|@ / @|@ // @|@ ~ @|@ == @|@ != @|@ < @|@ >= @|@ in @|@ not in @|@ and @|@ or @|"
    "not @|(@)|-@|@ if @ else @|(@ if @)|[@, @]|{'k': @}|(@, @)|(@)[@]|(@)[@:@]|(@)[:@]|(@)[::-1]|(@).a|"
    "(@)['a']|@ is defined|@ is none|@ is string|@ is mapping|@ is number|@ is iterable|@ is sequence|"
    "@ is boolean|@ is true|@ is eq(@)|(@) is in(@)|@ < @ < @|@ == @ == @|(@)\u00a6length|(@)\u00a6upper|"
    "(@)\u00a6first|(@)\u00a6last|(@)\u00a6list|(@)\u00a6join(@)|(@)\u00a6default(@)|(@)\u00a6default(@, true)|"
    "(@)\u00a6reverse\u00a6list|(@)\u00a6sort|(@)\u00a6unique\u00a6list|(@)\u00a6min|(@)\u00a6max|(@)\u00a6sum|"
    "(@)\u00a6string|(@)\u00a6int|(@)\u00a6float|(@)\u00a6abs|(@)\u00a6round|(@)\u00a6trim|(@)\u00a6tojson|"
    "(@)\u00a6title|(@)\u00a6capitalize|(@)\u00a6replace(@, @)|(@)\u00a6indent(2)|(@)\u00a6map('string')\u00a6list|"
    "(@)\u00a6select('defined')\u00a6list|(@).strip()|(@).split(@)|(@).startswith(@)|(@).replace(@, @)|"
    "(@).items()\u00a6list|(@).get(@)|(@).upper()|(@)\u00a6map(attribute='name')\u00a6list"
).replace("|", "\n").replace("\u00a6", "|").split("\n")  # fmt: skip
