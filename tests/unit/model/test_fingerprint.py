"""Fingerprints: equal values have one, whoever encoded them, and others have others."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import pydantic_data_converter

from dedupe.model.fingerprint import fingerprint, with_sets_marked

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def json_payload(value: Any, **spelling: Any) -> Payload:
    """Return a value as JSON."""
    return Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(value, **spelling).encode())


def reordered(value: Any) -> Any:
    """Return an equal value whose objects are in another order."""
    match value:
        case dict():
            members = cast("dict[str, Any]", value)
            return {key: reordered(each) for key, each in reversed(members.items())}
        case list():
            return [reordered(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
        case _:
            return value


def meaning(value: Any) -> Any:
    """Return a value without the members of objects that have no value."""
    match value:
        case dict():
            members = cast("dict[str, Any]", value)
            return {name: meaning(each) for name, each in members.items() if each is not None}
        case list():
            return [meaning(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
        case _:
            return value


@given(st.lists(JSON, max_size=4))
def test_how_json_is_spelled_does_not_matter(values: list[Any]) -> None:
    """Order of keys, spaces and escapes are not part of a fingerprint."""
    plain = fingerprint([json_payload(value) for value in values])
    assert plain == fingerprint([json_payload(reordered(value), indent=2) for value in values])
    assert plain == fingerprint(
        [json_payload(value, separators=(",", ":"), ensure_ascii=False) for value in values]
    )


@given(st.lists(JSON, max_size=4), st.lists(JSON, max_size=4))
def test_what_json_says_matters(one: list[Any], two: list[Any]) -> None:
    """Two lists of arguments have one fingerprint only where they are the same JSON values."""
    same = json.dumps(meaning(one), sort_keys=True) == json.dumps(meaning(two), sort_keys=True)
    assert (fingerprint([*map(json_payload, one)]) == fingerprint([*map(json_payload, two)])) == same


@given(st.lists(st.binary(max_size=6), max_size=4), st.lists(st.binary(max_size=6), max_size=4))
def test_the_borders_of_arguments_matter(one: list[bytes], two: list[bytes]) -> None:
    """The same bytes cut into other arguments are other arguments."""

    def payloads(values: list[bytes]) -> list[Payload]:
        return [Payload(metadata={"encoding": b"binary/plain"}, data=value) for value in values]

    assert (fingerprint(payloads(one)) == fingerprint(payloads(two))) == (one == two)


def test_the_encoding_matters() -> None:
    """The same bytes in another encoding are another argument; broken JSON counts by its bytes."""
    data = [
        Payload(metadata={"encoding": encoding}, data=data)
        for encoding in (b"json/plain", b"binary/plain", b"json/protobuf")
        for data in (b"{}", b"{", b"{ ", b"[" * 100_000)
    ]
    assert len({fingerprint([payload]) for payload in data}) == len(data)
    assert len({fingerprint([]), fingerprint([json_payload(None)])}) == 2


@dataclass
class Tagged:
    """A dataclass with a set."""

    name: str
    tags: set[str]


class Order(BaseModel):
    """A model that holds others with sets."""

    number: int
    tags: frozenset[str] = frozenset()
    inner: list[Tagged] = []


def of(*arguments: Any) -> str:
    """Return the fingerprint of arguments, as a call makes it."""
    marked = [with_sets_marked(argument) for argument in arguments]
    return fingerprint(pydantic_data_converter.payload_converter.to_payloads(marked))


def values_with_sets() -> list[Any]:
    """Return values that hold sets, whose order is up to the process."""
    words = ["red", "green", "blue", "white", "black", "grey"]
    return [
        set(words),
        frozenset(words),
        {"tags": set(words), "nested": [{frozenset(words[:3]), frozenset(words[3:])}]},
        Tagged("one", set(words)),
        Order(number=7, tags=frozenset(words), inner=[Tagged("two", set(words))]),
    ]


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_the_order_of_a_set_does_not_matter(seed: str) -> None:
    """Another process iterates over the same set in another order, and has the same fingerprint."""
    script = f"from {__name__} import of, values_with_sets\nprint(*map(of, values_with_sets()), sep=chr(10))"
    elsewhere = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": seed},
        check=True,
        capture_output=True,
        text=True,
    )
    assert elsewhere.stdout.split() == [of(value) for value in values_with_sets()]


def test_what_a_set_holds_matters() -> None:
    """Other members are other arguments; and a list of them is not a set."""
    assert of({"a", "b"}) == of({"b", "a"})
    assert len({of({"a", "b"}), of({"a"}), of({"a", "c"}), of(["a", "b"]), of(["b", "a"]), of(set())}) == 6


def test_what_holds_no_set_is_encoded_as_it_is() -> None:
    """Only where there is a set is something else encoded in its place."""
    for value in ([1, {"a": (2, 3)}], Order(number=1).model_dump(exclude={"tags"}), "text", None, Tagged):
        assert with_sets_marked(value) is value


def test_a_list_in_itself_is_left_to_the_converter() -> None:
    """The search for sets ends."""
    endless: list[Any] = []
    endless.append(endless)
    assert with_sets_marked(endless) is endless


def test_a_number_counts_by_its_value() -> None:
    """1 and 1.0 are equal, and True is another value."""
    assert of(1) == of(1.0)
    assert of({"amount": 20}) == of({"amount": 20.0})
    assert len({of(1), of(1.5), of(bool(1)), of("1"), of(10**400)}) == 5


def test_a_field_without_a_value_may_be_left_out() -> None:
    """A new optional field does not make another call of an old one; a new value does."""
    assert of({"a": 1}) == of({"a": 1, "b": None})
    assert len({of({"a": 1}), of({"a": 1, "b": 0}), of({"a": 1, "b": ""}), of({}), of(None), of([None])}) == 6
