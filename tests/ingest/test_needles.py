import io
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import needles
from ingest.needles import Needles, Search
from rag_bot.catalogue import Vectors

SHORT = st.text("ab", min_size=4, max_size=9).map(str.encode)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@settings(max_examples=300, deadline=None)
@given(st.text("ab", max_size=200).map(str.encode), st.lists(SHORT, max_size=8), st.integers(1, 70))
def test_strings_are_found_wherever_blocks_end(
    data: bytes, strings: list[bytes], size: int
) -> None:
    search = Search(Needles(dict.fromkeys(strings, ("text", 0))))
    assert search.blocks(cut(data, size)).strings == {each for each in strings if each in data}


@settings(max_examples=60, deadline=None)
@given(st.text("ab", max_size=60).map(str.encode), SHORT, SHORT, st.integers(9, 40))
def test_a_string_inside_an_explained_one_does_not_count(
    data: bytes, string: bytes, more: bytes, size: int
) -> None:
    longer = b"<" + string + more
    search = Search(Needles({string: ("path", 0)}, explained=(longer,)))
    assert not search.blocks(cut(b"-" * 300 + longer + b"-" * 300, size))
    both = data + longer + b"-" * 300 + string + data
    assert search.blocks(cut(both, size)).strings == {string}


def test_a_file_is_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needles, "BLOCK", 1000)
    data = random.Random(1).randbytes(50_000)
    wanted = {data[at : at + 30]: ("id", at) for at in range(0, 49_000, 333)}
    absent = {random.Random(n).randbytes(30): ("id", -n) for n in range(2, 1000)}
    hits = Search(Needles(wanted | absent)).stream(io.BytesIO(data))
    assert hits.strings == set(wanted)
    assert hits.kinds(Needles(wanted)) == {"id": len(wanted)}


def test_forms_of_one_thing_count_once() -> None:
    wanted = Needles({b"caf\xc3\xa9 bar": ("text", 1), b"caf\\u00e9 bar": ("text", 1)})
    hits = Search(wanted).blocks([b"caf\xc3\xa9 bar, caf\\u00e9 bar"])
    assert len(hits.strings) == 2
    assert hits.kinds(wanted) == {"text": 1}


def test_a_string_too_short_to_look_for_is_refused() -> None:
    with pytest.raises(ValueError, match="too short"):
        Search(Needles({b"abc": ("text", 0)}))


def unit(count: int, dimension: int, seed: int) -> Vectors:
    made = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    found: Vectors = made / np.linalg.norm(made, axis=1, keepdims=True)
    return found


@pytest.mark.parametrize("kind", ["<f2", "<f4"])
@pytest.mark.parametrize("before", [0, 1, 2, 3, 5001])
@pytest.mark.parametrize("dimension", [16, 128, 384])
def test_a_vector_is_found_at_any_place_and_a_little_shifted(
    kind: str, before: int, dimension: int
) -> None:
    vectors = unit(20, dimension, 1)
    noise = np.random.default_rng(2).normal(scale=1e-3 / np.sqrt(dimension), size=dimension)
    shifted = ((vectors[7] + noise) * 1.0002).astype(kind).tobytes()
    data = random.Random(3).randbytes(before) + shifted + random.Random(4).randbytes(4000)
    search = Search(Needles({}, vectors))
    assert search.blocks(cut(data, 1500)).vectors == {7}
    assert search.blocks([data]).vectors == {7}


def test_other_vectors_and_other_bytes_are_not_found() -> None:
    search = Search(Needles({}, unit(50, 384, 1)))
    for data in (
        unit(500, 384, 2).tobytes(),
        unit(500, 384, 3).astype("<f2").tobytes(),
        random.Random(5).randbytes(300_000),
        b"The lease of 1999 ends in 2024. " * 8000,
        bytes(100_000),
        b"",
    ):
        assert not search.blocks([data])
