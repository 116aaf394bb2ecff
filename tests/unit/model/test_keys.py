"""Keys: the laws of ids."""

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from dedupe import InvalidDeduplicationKeyError, Scope
from dedupe.errors import InvalidKeyspaceError
from dedupe.model.keys import MAX_ID_LENGTH, MAX_KEY_LENGTH, Keyspace, ScopedKey, prefix_of

CHARACTERS = st.one_of(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    # What the encoding itself is made of, and a character of each plane that has any.
    st.sampled_from(
        "%~/:@+=,.-_ \n\r\t\x7f\\?#&'\"éß中\U0001f600\U00020000\U00030000\U000e0041\U000f0000\U00100000"
    ),
)
NAMES = st.one_of(
    st.text(CHARACTERS, min_size=1, max_size=40),
    st.sampled_from(
        ["acme", "web", "org", "proj", "job", "%2F", "a%3Ab", "~" + "0" * 64, "f" * 64, "..", "/"]
    ),
)
KEYS = st.one_of(NAMES, st.text(CHARACTERS, min_size=1, max_size=400), st.just("k" * MAX_KEY_LENGTH))


@st.composite
def scoped_keys(draw: st.DrawFn) -> ScopedKey:
    """Return any scoped key."""
    scope = draw(st.sampled_from(list(Scope)))
    length = {Scope.ORGANIZATION: 1, Scope.PROJECT: 2, Scope.JOB: 3}[scope]
    return ScopedKey(scope=scope, owner=tuple(draw(NAMES) for _ in range(length)), key=draw(KEYS))


def is_shortened(workflow_id: str) -> bool:
    """Return whether an id was too long to be written out."""
    return "~" in workflow_id


@given(scoped_keys())
def test_an_id_is_short_printable_ascii(key: ScopedKey) -> None:
    """Whatever a key holds, its workflow id is printable ASCII without spaces, of at most 255 bytes."""
    workflow_id = key.format()
    assert len(workflow_id.encode("ascii")) <= MAX_ID_LENGTH
    assert all("!" <= character <= "~" for character in workflow_id)


@given(scoped_keys())
@example(ScopedKey(scope=Scope.ORGANIZATION, owner=("a:b",), key="c"))
@example(ScopedKey(scope=Scope.PROJECT, owner=("a/b", "c"), key="%25"))
def test_parse_gives_back_what_format_was_given(key: ScopedKey) -> None:
    """`parse(format(k)) == k` for every id that was not shortened."""
    workflow_id = key.format()
    if is_shortened(workflow_id):
        parsed = ScopedKey.parse(workflow_id)
        assert parsed.scope is key.scope
    else:
        assert ScopedKey.parse(workflow_id) == key


@given(scoped_keys(), scoped_keys())
def test_no_two_keys_share_an_id(one: ScopedKey, two: ScopedKey) -> None:
    """Formatting is injective over all scopes, owners and keys."""
    assert (one.format() == two.format()) == (one == two)


@given(st.lists(NAMES, min_size=4, max_size=4), st.data())
def test_parts_moved_across_a_border_are_another_key(parts: list[str], data: st.DataObject) -> None:
    """The same characters split into owner and key elsewhere never give the same id."""
    text = data.draw(st.sampled_from([":", "/", "%3A", "%2F", "~", "%"])).join(parts)
    cuts = [(text[:at], text[at:]) for at in range(1, len(text))]
    ids = [
        ScopedKey(scope=Scope.ORGANIZATION, owner=(organization,), key=key).format()
        for organization, key in cuts
    ]
    assert len(set(ids)) == len(ids)


@given(
    scoped_keys(), st.text(CHARACTERS, min_size=1, max_size=5), st.text(CHARACTERS, min_size=1, max_size=5)
)
def test_shortened_ids_stay_distinct(key: ScopedKey, one: str, two: str) -> None:
    """Keys that differ only beyond the readable head of their ids get different ids."""
    assume(one != two)
    long = key.key + "x" * MAX_ID_LENGTH
    ids = {ScopedKey(scope=key.scope, owner=key.owner, key=long + end).format() for end in (one, two)}
    assert len(ids) == 2
    assert all(is_shortened(each) for each in ids)


@given(KEYS)
def test_no_key_spells_a_shortened_id(key: str) -> None:
    """A key that looks like the head and digest of a long one does not get that one's id."""
    long = ScopedKey(scope=Scope.PROJECT, owner=("acme", "web"), key=key + "x" * 300)
    tail = long.format().removeprefix("proj:acme/web:")
    assert ScopedKey(scope=Scope.PROJECT, owner=("acme", "web"), key=tail).format() != long.format()


@given(scoped_keys(), st.integers(0, 400))
def test_a_prefix_begins_the_ids_of_its_keys(key: ScopedKey, length: int) -> None:
    """The ids of keys that begin with a prefix begin with its `prefix_of`, where they are written out."""
    workflow_id = key.format()
    assume(not is_shortened(workflow_id))
    assert workflow_id.startswith(prefix_of(key.scope, key.owner, key_prefix=key.key[:length]))


@given(NAMES, NAMES, NAMES, KEYS)
def test_scopes_never_share_a_key(organization: str, project: str, job: str, key: str) -> None:
    """One key in three scopes has three ids, however organization, project and job are named."""
    space = Keyspace(organization=organization, project=project)
    ids = {space.scoped(key, scope=scope, job=job).format() for scope in Scope}
    assert len(ids) == len(Scope)


@given(KEYS, KEYS)
def test_hidden_keys_stay_distinct_and_hidden(one: str, two: str) -> None:
    """With a secret a key is its HMAC: 64 hex digits, different for different keys."""
    space = Keyspace(organization="acme", project="web", key_secret=b"secret")
    hidden = [space.scoped(key, scope=Scope.PROJECT).key for key in (one, two)]
    assert (hidden[0] == hidden[1]) == (one == two)
    assert all(len(key) == 64 and int(key, 16) >= 0 for key in hidden)


@given(KEYS)
def test_hidden_keys_depend_on_the_secret(key: str) -> None:
    """Another secret makes another key."""
    ids = {
        Keyspace(organization="acme", project="web", key_secret=secret).scoped(key, scope=Scope.PROJECT).key
        for secret in (b"one", b"two", None)
    }
    assert len(ids) == 3


@pytest.mark.parametrize(
    "key", ["", "\0", "a\0b", "x" * (MAX_KEY_LENGTH + 1), None, 7, b"key", ["key"], "\ud800", "a\udfff"]
)
def test_what_is_no_key_is_refused(key: object) -> None:
    """Whatever is not a string of 1 to 2,048 characters without NUL and surrogates is refused."""
    space = Keyspace(organization="acme", project="web")
    with pytest.raises(InvalidDeduplicationKeyError) as caught:
        space.scoped(key, scope=Scope.PROJECT)
    assert caught.value.non_retryable


@pytest.mark.parametrize("key", ["marked\0", "marked" * 400, "marked\ud800"])
def test_a_refused_key_is_named_unless_hidden(key: str) -> None:
    """The error shows the key, but not where keys are to be hidden."""
    for secret, shown in ((None, True), (b"secret", False)):
        space = Keyspace(organization="acme", project="web", key_secret=secret)
        with pytest.raises(InvalidDeduplicationKeyError) as caught:
            space.scoped(key, scope=Scope.PROJECT)
        assert ("marked" in caught.value.message) == shown


def test_a_key_of_the_greatest_length_is_one() -> None:
    """A key of 2,048 characters, each of four bytes, is fine."""
    key = "\N{GRINNING FACE}" * MAX_KEY_LENGTH
    scoped = Keyspace(organization="acme", project="web").scoped(key, scope=Scope.PROJECT)
    assert scoped.key == key
    assert len(scoped.format()) == MAX_ID_LENGTH


def test_a_job_key_needs_its_job() -> None:
    """Scope JOB without a job, and what is no scope, are refused."""
    space = Keyspace(organization="acme", project="web")
    for job in (None, ""):
        with pytest.raises(InvalidDeduplicationKeyError):
            space.scoped("key", scope=Scope.JOB, job=job)
    with pytest.raises(InvalidDeduplicationKeyError):
        space.scoped("key", scope="galaxy")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("organization", "project", "secret"),
    [("", "web", None), ("acme", "", None), ("acme", "web", b""), ("\ud800", "web", None)],
)
def test_a_keyspace_that_tells_no_keys_apart_is_refused(
    organization: str, project: str, secret: bytes | None
) -> None:
    """Empty names and secrets are refused."""
    with pytest.raises(InvalidKeyspaceError):
        Keyspace(organization=organization, project=project, key_secret=secret)


@pytest.mark.parametrize(
    "workflow_id", ["", "proj", "proj:", "proj:acme/web", "other:acme:key", ":::", "Proj:a:b"]
)
def test_what_is_no_id_is_not_parsed(workflow_id: str) -> None:
    """Ids that `format` did not write are refused."""
    with pytest.raises(ValueError, match="not the workflow id"):
        ScopedKey.parse(workflow_id)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (Scope.ORGANIZATION, "org:acme:welcome-email-7"),
        (Scope.PROJECT, "proj:acme/web:welcome-email-7"),
        (Scope.JOB, "job:acme/web/OnboardingJob:welcome-email-7"),
    ],
)
def test_ids_are_written_as_promised(scope: Scope, expected: str) -> None:
    """Ids are what operators search for, and what is recorded: they never change."""
    space = Keyspace(organization="acme", project="web")
    assert space.scoped("welcome-email-7", scope=scope, job="OnboardingJob").format() == expected


def test_a_shortened_id_is_written_as_promised() -> None:
    """A shortened id is its readable head, a tilde and the digest: it never changes."""
    space = Keyspace(organization="acme", project="web")
    assert space.scoped("x" * 300, scope=Scope.PROJECT).format() == (
        "proj:acme/web:" + "x" * 176 + "~9499e2d2fc6bb4407a3b20c17754f151bc6e82629470b13db3edcda2632f1a5e"
    )
