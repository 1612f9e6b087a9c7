"""JSON with comments: strict about values, patient with slips, which it names all in one report."""

import pytest

from quincunx.config.document import ConfigError
from quincunx.config.read import read_text


def refusals(text):
    """Return (line, column, message, remedy) of each problem."""
    with pytest.raises(ConfigError) as caught:
        read_text(text, "f", "json")
    return [(p.mark.line, p.mark.column, p.message, p.remedy) for p in caught.value.problems]


def test_comments_and_trailing_commas_change_nothing_and_move_nothing():
    text = """\
// "not": this
{ /* nor
   "this": */ "a": [1, /* one */ 2,], ///// "x": 1
  "url": "http://x//y", "star": "/* text */"
}"""
    document = read_text(text, "f", "json")
    assert document.tree == {"a": [1, 2], "url": "http://x//y", "star": "/* text */"}
    assert str(document.places[("a",)].key) == "f:3:15"
    assert str(document.places[("a", 1)].value) == "f:3:34"
    assert str(document.places[("url",)].value) == "f:4:10"


def test_escapes_and_surrogate_pairs():
    text = r'{"a\u0062": "\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00😀"}'
    assert read_text(text, "f", "json").tree == {"ab": '"\\/\b\f\n\r\té😀😀'}


def test_numbers_keep_their_kind():
    tree = read_text('{"a": 0, "b": -0.0, "c": 1e4, "d": 1E-4, "e": -12, "f": %s}' % ("7" * 50), "f", "json").tree
    assert [repr(value) for value in tree.values()] == ["0", "-0.0", "10000.0", "0.0001", "-12", "7" * 50]


GUIDE = """\
{
    ///////train args//////////
    "vis_weight_decay":0.01,,
    //type of input features
    "feature_type":"butd" 

    // "backbone" is next
    "backbone":"t5-base",
    "use_single_prompt":true or,
    "use_separate_optimizer_for_visual":false, "use_adam_for_visual":true, //SGD if false
    "track_z":true,


}
"""  # noqa: W291


def test_the_slips_of_a_hand_written_guide_are_named_with_their_repairs_in_one_report():
    assert refusals(GUIDE) == [
        (3, 29, "doubled comma", "remove one"),
        (5, 26, 'missing comma before "backbone"', "put a comma here"),
        (9, 30, "a word `or` after the value true", "remove it, or choose one value"),
    ]


def test_the_guide_repaired_as_told_is_read():
    repaired = GUIDE.replace(",,", ",").replace('"butd" ', '"butd",').replace(" or,", ",")
    assert read_text(repaired, "f", "json").tree["track_z"] is True


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "remedy"),
    [
        # commas and colons
        ('{,"a":1}', 1, 2, "a comma with nothing before it", "remove"),
        ('{"a":1,,}', 1, 8, "doubled comma", "remove"),
        ('{"a":[1,,2]}', 1, 9, "doubled comma", "remove"),
        ('{"a":[1 2]}', 1, 8, "missing comma before 2", "comma"),
        ('{"a":["x"\n"y"]}', 1, 10, 'missing comma before "y"', "comma"),
        ('{"a":{} // c\n"b":2}', 1, 8, 'missing comma before "b"', "comma"),
        ('{"a":1;"b":2}', 1, 7, "a semicolon", "comma"),
        ('{"a" 1}', 1, 6, 'missing colon after the key "a"', "colon"),
        ('{"a"=1}', 1, 5, "`=` after the key", "colon"),
        ('{"a"=>1}', 1, 5, "`=` after the key", "colon"),
        ('{"a":, "b":1}', 1, 6, 'the key "a" has no value', "write its value"),
        ('{"a", "b":1}', 1, 5, 'the key "a" has no value', "write its value"),
        # what follows a value
        ('{"a":1 {"b":2}}', 1, 8, "a second value after the value 1", "remove one"),
        ('{"a":"x" "y"}', 1, 10, 'a second value after the value "x"', "remove one"),
        ('{"a":true or false, "b":1}', 1, 11, "`or false` after the value true", "choose one"),
        ('{"a":["x" or "y"]}', 1, 11, 'a word `or` after the value "x"', "choose one"),
        ('{"a":1/2}', 1, 7, "`/2` after the value 1", "remove"),
        # values
        ('{"a":012}', 1, 6, "`012` is not a JSON number", "leading zeros"),
        ('{"a":0x1F}', 1, 6, "`0x1F` is not a JSON number", "31"),
        ('{"a":.5}', 1, 6, "`.5` is not a JSON number", "write 0.5"),
        ('{"a":-.5}', 1, 6, "`-.5` is not a JSON number", "write -0.5"),
        ('{"a":5.}', 1, 6, "`5.` is not a JSON number", "write 5.0"),
        ('{"a":1.e3}', 1, 6, "`1.e3` is not a JSON number", "write 1.0e3"),
        ('{"a":+5}', 1, 6, "`+5` is not a JSON number", "write 5"),
        ('{"a":1_000}', 1, 6, "`1_000` is not a JSON number", "write 1000"),
        ('{"a":2026-11-20}', 1, 6, "`2026-11-20` is not a JSON number", '"2026-11-20"'),
        ('{"a":1e999}', 1, 6, "too large for a float", "range"),
        ('{"a":%s}' % ("9" * 5000), 1, 6, "5000 digits", "quotes"),
        ('{"a":NaN}', 1, 6, "JSON has no `NaN`", "YAML"),
        ('{"a":[-Infinity]}', 1, 7, "JSON has no `-Infinity`", "YAML"),
        ('{"a":True}', 1, 6, "`True` is not JSON's spelling", "write true"),
        ('{"a":None}', 1, 6, "`None` is not JSON's spelling", "write null"),
        ('{"a":yes}', 1, 6, "`yes` is not JSON's spelling", "write true"),
        ('{"a":softmax}', 1, 6, "the text `softmax` has no quotes", '"softmax"'),
        ('{"a":@}', 1, 6, "a value was expected, found `@`", "value"),
        # texts and keys
        ('{"a":\'it "is"\'}', 1, 6, "single quotes", r'write "it \"is\""'),
        ("{'a':1}", 1, 2, "single quotes", 'write "a"'),
        ("{lr:1}", 1, 2, "the key lr has no quotes", 'write "lr"'),
        ("{3:1}", 1, 2, "the key 3 has no quotes", 'write "3"'),
        ('{"a":"\\q"}', 1, 7, "`\\q` is not an escape", "\\\\"),
        ('{"a":"\\u12"}', 1, 7, "\\u without four", "\\u00e9"),
        ('{"a":"x\ty"}', 1, 8, "control character U+0009", "write \\t"),
        ('{"a":"\\ud83d"}', 1, 7, "half of a surrogate pair", "both halves"),
        ('{"a":"\\ud83d\\u0041"}', 1, 7, "half of a surrogate pair", "both halves"),
        ('{"a":"\\ude00"}', 1, 7, "half of a surrogate pair", "both halves"),
        ('{"a":"x,\n"b":1}', 1, 6, "not closed on its line", 'close it with "'),
        ('{"a":"x\n}', 1, 6, "not closed on its line", 'close it with "'),
        ('{"a:1}', 1, 2, "not closed on its line", 'close it with "'),
        ('{"a":1,"b":{"a":1,"a":2}}', 1, 19, "b.a stands twice; the first is on line 1", "keep one"),
        ('{"a":1,\n"b":2,\n"a":3}', 3, 1, "a stands twice; the first is on line 1", "keep one"),
        # brackets, comments and what stands around
        ('{"a":[1,2}', 1, 10, "the `[` of line 1, column 6 is not closed: found `}`", "`]`"),
        ('{\n"a":{"b":1}', 1, 1, "the `{` of line 1, column 1 is not closed: the file ends", "`}`"),
        ('{"a":1}}', 1, 8, "text after the final `}`", "remove"),
        ('{"a":1}\n{"b":1}', 2, 1, "text after the final `}`", "remove"),
        ('{"a":1} /* never', 1, 9, "comment that begins here is never closed", "*/"),
        ('{"a":1} # why', 1, 9, "a # comment", "//"),
        ('{"a":\u00a01}', 1, 6, "U+00A0", "plain space"),
        ('"a":1,\n"b":2', 1, 1, "the outer braces are missing", "put {"),
        ("Some help\nof three\n\n{}", 1, 1, "text before the opening {", "up to line 3"),
        ("# Help\n\nText\n```json\n{\n}\n```\n", 1, 1, "a page with a JSON block", "lines 5 to 6"),
        ("{" + '"a":{' * 200, 1, 501, "more than 100 levels", "flatten"),
    ],
)
def test_refusals(text, line, column, message, remedy):
    (found,) = refusals(text)
    assert found[:2] == (line, column)
    assert message in found[2] and remedy in found[3]


def test_reading_goes_on_after_each_slip():
    text = '{a: \'x\', "b" 012, "c"=True,, "d":1 "e":[1 NaN], "a": "\\q" or "r"}'
    columns = [column for _, column, *_ in refusals(text)]
    assert columns == sorted(columns) and len(columns) == 12


def test_a_text_that_is_no_json_is_given_up_on_in_time():
    assert len(refusals("{" + "x y, " * 5000)) <= 50


def test_a_hundred_levels_are_read():
    assert read_text('{"a":' * 99 + "[]" + "}" * 99, "f", "json").tree
