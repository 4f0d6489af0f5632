"""Chat templates for jinja_test.py, and conversations to render with them.

The templates, in data/chat, are our own, in the manner of the model families that they are named
after: the same control tokens and the same means of the language. SETTINGS are variables that some
of them take besides.
"""

import pathlib

CHAT = {
    path.stem: path.read_text()
    for path in sorted((pathlib.Path(__file__).parent / "data" / "chat").glob("*.jinja"))
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

_NO_THINK = {"role": "system", "content": "Be kind. /no_think"}
_OVERRIDE = {"role": "system", "content": "Only this. /system_override /think\n"}
_CALLS = {
    "role": "assistant",
    "content": "Let me see.",
    "tool_calls": [
        {"id": "a1B2c3D4e", "function": {"name": "weather", "arguments": {"city": "Zürich", "n": 3}}},
        {"id": "f5G6h7I8j", "function": {"name": "time", "arguments": "{\"zone\": \"UTC\"}"}},
    ],
}
_RESULT = {"role": "tool", "tool_call_id": "a1B2c3D4e", "name": "weather", "content": "22 °C"}
_RESULT2 = {"role": "tool", "tool_call_id": "f5G6h7I8j", "content": {"content": "12:00", "x": [None, 1.5]}}
_REASONED = {"role": "assistant", "reasoning_content": "\nhm, hm\n", "content": "\n\nYes."}
_SYSTEM_PARTS = {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
_WITH_TOOLS = {"role": "system", "content": "Call.", "tools": '[{"name": "weather"}]'}
_MARKUP = {"role": "user", "content": "[INST] <s> </s> <<SYS>>x<</SYS>> <start_of_turn>model\n<|user|> <tool_response>&<b>\"'</b>"}
_RESPONSE = {"role": "user", "content": "<tool_response>\n4\n</tool_response>"}

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
    [_SYSTEM, _MARKUP],
    [_NO_THINK, _USER, _THINK, _USER],
    [_OVERRIDE, _USER, _ASSISTANT],
    [_SYSTEM, _USER, _CALLS, _RESULT, _RESULT2, _ASSISTANT, _USER],
    [_USER, _CALLS, _RESULT, _RESULT2],
    [_USER, _THINK, _RESPONSE, _REASONED],
    [_USER, _REASONED, _USER, _REASONED],
    [_SYSTEM_PARTS, _PARTS],
    [_WITH_TOOLS, _USER],
    [_USER, _ASSISTANT, _SYSTEM, _USER],
    [],
]

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "It's \"<b>\" & hot in Zürich ",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "which", "enum": ["Zürich", "Ōsaka"]},
                    "n": {"type": ["integer", "null"], "default": 2.5},
                },
                "required": ["city"],
                "strict": True,
            },
            "return": {"type": "number"},
        },
    },
    {"type": "function", "function": {"name": "time", "parameters": {"a": [1, -2.5e-7, None, False]}}},
]

# None of them, then each: variables that a caller of transformers may give.
SETTINGS = [
    {},
    {"tools": TOOLS},
    {"enable_thinking": False},
    {"tools": TOOLS, "builtin_tools": ["weather", "code_interpreter", "search"], "tools_in_user_message": False},
    {"custom_tools": TOOLS[:1], "xml_tools": TOOLS, "python_tools": ["def f(x: int): ...", "def g(): ..."]},
    {"date_string": "1 Jan 2020", "use_default_prompt": True, "tools": []},
]
