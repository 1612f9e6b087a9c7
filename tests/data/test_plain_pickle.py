import os
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from quincunx.data.plain_pickle import parse_plain_pickle, read_plain_pickle
from quincunx.errors import DataError

PROTOCOLS = range(6)


def parse(data: bytes) -> object:
    return parse_plain_pickle(data, "a.pkl")


def refused(data: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        parse(data)
    assert str(caught.value).startswith("a.pkl: byte ")
    assert "nothing of the file was run" in str(caught.value)


# What is read

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(st.characters(codec="utf-8")),
    st.binary(),
)
plain = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(st.one_of(st.text(), st.binary(), st.integers()), inner),
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=60, deadline=None)
@given(value=plain)
def test_plain_values_come_back_under_every_protocol(protocol, value):
    found = parse(pickle.dumps(value, protocol))
    assert found == value
    assert repr(found) == repr(value)  # types too: True is not 1, -0.0 is not 0.0


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=40, deadline=None)
@given(
    array=arrays.arrays(
        st.sampled_from([np.dtype(code) for code in ("?", "u1", "<i4", ">i4", "<f8", ">f2", "c16", "u8")]),
        arrays.array_shapes(min_dims=0, min_side=0, max_side=4),
        elements={"allow_nan": False},
    ),
    fortran=st.booleans(),
)
def test_arrays_come_back_under_every_protocol(protocol, array, fortran):
    array = np.asarray(array, order="F" if fortran else "C")
    first, second = parse(pickle.dumps([array, array], protocol))
    assert first is second
    assert first.dtype == array.dtype
    assert first.shape == array.shape
    assert first.tolist() == array.tolist()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_of_one_type_share_it_and_scalars_are_read(protocol):
    value = {"a": np.arange(3, dtype=">u2"), "b": np.arange(4, dtype=">u2"), "c": np.float32(2.5), "d": np.bool_(True)}
    found = parse(pickle.dumps(value, protocol))
    assert {key: each.tolist() for key, each in found.items()} == {"a": [0, 1, 2], "b": [0, 1, 2, 3], "c": 2.5, "d": 1}
    assert found["b"].dtype == np.dtype(">u2")
    assert (type(found["c"]), type(found["d"])) == (np.float32, np.bool_)


@pytest.mark.parametrize("protocol", [4, 5])
def test_sets_of_protocol_4(protocol):
    value = [{1, "a"}, frozenset({b"b", None}), set()]
    assert parse(pickle.dumps(value, protocol)) == value
    assert parse(pickle.dumps(bytearray(b"xy"), 5)) == bytearray(b"xy")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_the_same_object_stays_so_even_within_itself(protocol):
    value: list[object] = [[1]]
    value += [value[0], value]
    found = parse(pickle.dumps(value, protocol))
    assert found[0] is found[1]
    assert found[2] is found


def python2_batch(data: bytes, labels: list[int]) -> bytes:
    """A batch as Python 2's cPickle wrote CIFAR-10's: protocol 2, every string a byte string."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    return b"".join(
        [
            b"\x80\x02}q\x01(",
            text(b"data") + b"q\x02",
            b"cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85" + text(b"b") + b"\x87Rq\x05",
            b"(K\x01K" + bytes([len(labels)]) + b"K" + bytes([len(data) // len(labels)]) + b"\x86",
            b"cnumpy\ndtype\nq\x06" + text(b"u1") + b"K\x00K\x01\x87Rq\x07(K\x03" + text(b"|"),
            b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<i", len(data)) + data + b"tb",
            text(b"labels") + b"q\x08]q\x09(" + b"".join(b"K" + bytes([label]) for label in labels) + b"e",
            text(b"batch_label") + text(b"training batch 1 of 5") + b"u.",
        ]
    )


def test_a_batch_of_python_2(tmp_path):
    pixels = bytes(range(250, 256)) * 2
    data = python2_batch(pixels, [3, 9])
    reference = pickle.loads(data, encoding="bytes")
    (tmp_path / "data_batch_1").write_bytes(data)
    found = read_plain_pickle(tmp_path / "data_batch_1")
    assert list(found) == list(reference) == [b"data", b"labels", b"batch_label"]
    assert found[b"data"].dtype == np.uint8
    assert found[b"data"].tolist() == reference[b"data"].tolist() == [list(pixels[:6]), list(pixels[6:])]
    assert found[b"labels"] == [3, 9]
    assert found[b"batch_label"] == b"training batch 1 of 5"


def test_python_2_text_protocol():
    data = (
        b"(dp1\nS'data'\np2\ncnumpy.core.multiarray\n_reconstruct\np3\n(cnumpy\nndarray\np4\n(I0\ntS'b'\ntR"
        b"(I1\n(I2\nI2\ntcnumpy\ndtype\np5\n(S'i2'\nI0\nI1\ntR(I3\nS'>'\nNNNI-1\nI-1\nI0\ntbI00\n"
        b"S'\\x00\\x01\\xff\\xfe\\n\\'\"\\t'\ntbsS\"it's\"\nF1.5\nsVk\\u00e9\nL5L\ns."
    )
    reference = pickle.loads(data, encoding="bytes")
    found = parse(data)
    assert found[b"data"].tolist() == reference[b"data"].tolist() == [[1, -2], [2599, 8713]]
    assert {key: value for key, value in found.items() if key != b"data"} == {b"it's": 1.5, "ké": 5}


# What is refused

HIT = []


def call(module: str, name: str, argument: str = "S'x'\n") -> bytes:
    return f"c{module}\n{name}\n({argument}tR.".encode()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("__builtin__", "eval"),
        ("builtins", "exec"),
        ("builtins", "getattr"),
        ("builtins", "__import__"),
        ("subprocess", "Popen"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "fromfile"),
        ("numpy.core.multiarray", "_reconstruct.__globals__"),
        ("numpy", "dtype.type"),
        ("numpy.testing._private.utils", "runstring"),
        ("copyreg", "_reconstructor"),
        ("codecs", "encode"),
        ("builtins", "set"),
        ("collections", "OrderedDict"),
    ],
)
def test_names_are_refused_by_name_in_both_spellings(module, name):
    refused(call(module, name), rf"it asks for '{module}\.{name}'")
    words = b"".join(b"\x8c" + bytes([len(word)]) + word.encode() for word in (module, name))
    refused(b"\x80\x04" + words + b"\x93(tR.", rf"it asks for '{module}\.{name}'")


class Evil:
    def __reduce__(self):
        return (HIT.append, ("hit",))


class Shell:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_runs(tmp_path, protocol):
    hit = tmp_path / "hit"
    for value in (Shell(hit), [1, {"a": (Shell(hit),)}], np.array([Shell(hit)], object)):
        refused(pickle.dumps(value, protocol), "it asks for|an array of type 'O8'")
    refused(pickle.dumps(Evil(), protocol), "it asks for '(builtins|__builtin__).getattr'")
    assert not hit.exists()
    assert not HIT
    pickle.loads(pickle.dumps(Shell(hit), protocol))
    assert hit.exists()  # the attack is a real one


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([[]], object), "an array of type 'O8'"),
        (np.array(["a"]), "an array of type 'U1'"),
        (np.array([b"a"]), "an array of type 'S1'"),
        (np.zeros(2, [("a", "i4")]), "an array of type 'V4'"),
        (np.array(["2020-01-01"], "M8[D]"), "an array of type 'M8'"),
    ],
)
def test_other_arrays_are_refused(array, said, protocol):
    refused(pickle.dumps(array, protocol), said)


DTYPE = b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR"
BLANK = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        # names where values belong
        (b"cnumpy\nndarray\n.", r"it holds numpy\.ndarray as a value"),
        (b"(lcnumpy\ndtype\na.", r"it holds numpy\.dtype as a value"),
        (b"(dS'k'\ncnumpy\ndtype\ns.", r"it holds numpy\.dtype as a value"),
        (b"(dcnumpy\ndtype\nS'v'\ns.", r"a dict holds numpy\.dtype as a key"),
        (b"\x8f(cnumpy\ndtype\n\x90.", r"a set holds numpy\.dtype as a member"),
        (b"(d(I1\ntI1\ns.", "a dict holds a value of type tuple as a key"),
        # calls that plain values do not make
        (b"cnumpy\nndarray\n(I9\ntR.", r"it calls numpy\.ndarray"),
        (b"cnumpy\ndtype\n(cnumpy\nndarray\ntR.", "where a word was expected"),
        (b"cnumpy\ndtype\n(S'O'\ntR.", "an array of type 'O'"),
        (b"cnumpy\ndtype\n(S'u1,u1'\ntR.", "an array of type 'u1,u1'"),
        (b"c_codecs\nencode\n(Vx\nS'hex'\ntR.", r"it calls _codecs\.encode"),
        (b"cbuiltins\nbytes\n(L99999999999L\ntR.", "it calls bytes"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntS'b'\ntR.", "it calls numpy's _reconstruct"),
        (b"S'os'\n(S'system'\ntR.", "it calls a value of type bytes"),
        (b"(lS'x'\n(tR.", "it calls a value of type bytes"),
        # states
        (b"(l(I1\ntb.", "it sets the state of a value of type list"),
        (b"cnumpy\ndtype\n(dS'k'\nI1\nsb.", "arguments are missing"),
        (b"cnumpy\ndtype\n(I1\ntb.", r"it sets the state of numpy\.dtype"),
        (BLANK + b".", "it holds a value of type Blank as a value"),
        (DTYPE + b".", "it holds a value of type Dtype as a value"),
        (BLANK + b"p1\n(lg1\na0(I1\n(I1\nt" + DTYPE + b"I00\nS'a'\ntb\x86.", "a value is missing"),
        (b"(l" + BLANK + b"p1\nag1\n(I1\n(I1\nt" + DTYPE + b"I00\nS'a'\ntb\x86.", "it holds a value of type Blank"),
        (DTYPE + b"(I3\nS'|'\nN(S'a'\ntNI-1\nI-1\nI0\ntb.", "an array of records"),
        (DTYPE + b"(I3\nS'|'\nNNNI-1\nI-1\nI0\n(dtb.", "an array of records"),
        (DTYPE + b"(I3\nS'x'\nNNNI-1\nI-1\nI0\ntb.", "a byte order that is none"),
        # shapes and sizes that do not fit
        (BLANK + b"(I1\n(I3\nt" + DTYPE + b"I00\nS'ab'\ntb.", "an array of 3 bytes has 2"),
        (BLANK + b"(I1\n(I-1\nt" + DTYPE + b"I00\nS'ab'\ntb.", "the shape of an array"),
        (BLANK + b"(I1\n(L99999999999999999999L\nI0\nt" + DTYPE + b"I00\nS''\ntb.", "the shape of an array"),
        (BLANK + b"(I1\n(L4611686018427387904L\nL9L\nI0\nt" + DTYPE + b"I00\nS''\ntb.", "damaged"),
        (BLANK + b"(I1\n(I1\nt" + DTYPE + b"I00\n(lS'a'\natb.", "an array made of a value of type list"),
        (b"T\xff\xff\xff\x7f.", "ends early"),
        (b"T\xff\xff\xff\xff.", "ends early"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", "ends early"),
        (b"\x8b\xff\xff\xff\xff.", "ends early"),
        (b"I" + b"9" * 10_000 + b"\n.", "damaged"),
        # the memo and the stack
        (b"h\x07.", "nothing was remembered as 7"),
        (b"I1\nr\xff\xff\xff\xff0j\xfe\xff\xff\xff.", "nothing was remembered as 4294967294"),
        (b"q\x01.", "a value is missing"),
        (b".", "a value is missing"),
        (b"I1\n(0.", "a value is missing"),
        (b"I1\nt.", "a mark is missing"),
        (b"I1\na.", "a value is missing"),
        (b"I1\nI2\na.", "a list is missing"),
        (b"}I2\na.", "a list is missing"),
        (b"}(I1\nu.", "damaged"),
        # operations of other things
        (b"(S'x'\nios\nsystem\n.", "an object of a class"),
        (b"(cnumpy\nndarray\nS'x'\no.", "an object of a class"),
        (b"cnumpy\nndarray\n)\x81.", "an object of a class"),
        (b"cnumpy\nndarray\n)}\x92.", "an object of a class"),
        (b"\x82\x01.", "a registered extension"),
        (b"Pthere\n.", "outside the file"),
        (b"I1\nQ.", "outside the file"),
        (b"\x97.", "a buffer outside the file"),
        (b"\x80\x09.", "protocol 9, expected 0 to 5"),
        (b"\x00.", "is no operation of a pickle"),
        (b"", "ends early"),
        (b"I1\n", "ends early"),
        (b"S'abc\n.", "a string without quotes"),
        (b"cos", "ends early"),
        (b"c\xff\n\xff\n.", "damaged"),
    ],
)
def test_tricks_and_damage(data, said):
    refused(data, said)


def test_terminal_codes_in_names_are_shown_not_sent():
    with pytest.raises(DataError) as caught:
        parse(call("os\x1b[2J", "system"))
    assert "\x1b" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(
    data=st.binary(max_size=40),
    base=st.sampled_from([pickle.dumps({"a": np.arange(4), "b": [1, (2.0, "x")]}, protocol) for protocol in PROTOCOLS]),
    at=st.integers(0, 400),
)
def test_damage_anywhere_gives_a_value_or_our_error(data, base, at):
    for broken in (base[:at], base[:at] + data + base[at:], base[:at] + data + base[at + len(data) :]):
        try:
            parse(broken)
        except DataError:
            continue


def test_deep_and_shared_containers_cost_no_more_than_their_file():
    deep = b"]" * 200_000 + b"a" * 199_999 + b"."
    found = parse(deep)
    for _ in range(199_999):
        (found,) = found
    assert found == []
    laughs = b"]q\x00" + b"(h\x00h\x00lq\x00" * 2000 + b"."
    assert len(parse(laughs)) == 2


def test_files_that_are_missing_too_large_or_something_else(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*gone: No such file"):
        read_plain_pickle(tmp_path / "gone")
    path = tmp_path / "large"
    path.write_bytes(pickle.dumps(b"x" * 100))
    assert read_plain_pickle(path) == b"x" * 100
    with pytest.raises(DataError, match=r"large has \d+ bytes, expected at most 50"):
        read_plain_pickle(path, most_bytes=50)
    path.write_bytes(b"PK\x03\x04 a zip archive")
    with pytest.raises(DataError, match="large: byte 0 of the pickle"):
        read_plain_pickle(path)


def test_torch_is_not_imported():
    code = "import sys, quincunx.data.plain_pickle; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
