"""The worker's settings: what they take from the environment, and the one line they have for all else."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from activities.email import OutboxSettings, ResendSettings
from activities.worker_settings import Settings, StartupError, connection, load_settings, variables

NEEDED = {"WORKER_ORGANIZATION": "acme", "WORKER_PROJECT": "web"}
SECRET = "re_do_not_show_me"  # noqa: S105 - it guards nothing


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.upper().startswith(("WORKER_", "TEMPORAL_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))


def load(monkeypatch: pytest.MonkeyPatch, **variables_: str) -> Settings:
    """Return the settings in an environment of the needed variables and these."""
    for name, value in {**NEEDED, **variables_}.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def test_the_needed_variables_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """With organization and project alone, everything stays on this machine."""
    settings = load(monkeypatch)
    assert (settings.organization, settings.project) == ("acme", "web")
    assert settings.email == OutboxSettings()
    assert settings.key_secret is None


def test_every_kind_of_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sections, secrets, numbers and durations come out of the environment as what they are."""
    settings = load(
        monkeypatch,
        WORKER_EMAIL__TRANSPORT="resend",
        WORKER_EMAIL__API_KEY=SECRET,
        WORKER_EMAIL__SENDER="hello@acme.example",
        WORKER_EMAIL__TIMEOUT="PT5S",
        WORKER_KEY_SECRET="hush",  # noqa: S106 - it guards nothing
        WORKER_CONCURRENT_ACTIVITIES="7",
        WORKER_GRACEFUL_SHUTDOWN_TIMEOUT="00:01:00",
    )
    assert isinstance(settings.email, ResendSettings)
    assert settings.email.api_key.get_secret_value() == SECRET
    assert settings.email.timeout == timedelta(seconds=5)
    assert settings.key_secret is not None
    assert settings.key_secret.get_secret_value() == "hush"
    assert settings.concurrent_activities == 7
    assert settings.graceful_shutdown_timeout == timedelta(minutes=1)


def test_a_section_has_its_default_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting of the default transport needs no word about the transport."""
    settings = load(monkeypatch, WORKER_EMAIL__DIRECTORY="mail")
    assert settings.email == OutboxSettings(directory=Path("mail"))


def test_given_settings_are_not_mixed_with_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings made with arguments read no variable: the demo never sends what an environment would."""
    load(
        monkeypatch,
        WORKER_EMAIL__TRANSPORT="resend",
        WORKER_EMAIL__API_KEY=SECRET,
        WORKER_EMAIL__SENDER="a@b.c",
    )
    settings = Settings(organization="demo", project="demo", email=OutboxSettings())
    assert settings.organization == "demo"
    assert settings.email == OutboxSettings()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"WORKER_ORGANIZATION": ""}, "WORKER_ORGANIZATION is empty"),
        ({"WORKER_KEY_SECRET": ""}, "WORKER_KEY_SECRET is empty"),
        ({"WORKER_CONCURRENT_ACTIVITIES": "many"}, "WORKER_CONCURRENT_ACTIVITIES cannot be used"),
        ({"WORKER_CONCURRENT_WORKFLOW_TASKS": "1"}, "greater than or equal to 2"),
        ({"WORKER_GRACEFUL_SHUTDOWN_TIMEOUT": "soon"}, "write it as PT25S"),
        ({"WORKER_TASKQUEUE": "q"}, "WORKER_TASKQUEUE is no setting: did you mean WORKER_TASK_QUEUE?"),
        ({"WORKER_XYZZY": "q"}, "WORKER_XYZZY is no setting: unset it"),
        ({"WORKER_EMAIL": "garbage"}, "WORKER_EMAIL"),
        (
            {"WORKER_EMAIL__TRANSPORT": "pigeon"},
            "WORKER_EMAIL__TRANSPORT is no transport: set it to one of 'outbox'",
        ),
        ({"WORKER_EMAIL__FOO": "1"}, "WORKER_EMAIL__FOO is no setting of the transport that is chosen"),
        (
            {"WORKER_EMAIL__API_KEY": SECRET},
            "WORKER_EMAIL__API_KEY is no setting of the transport that is chosen",
        ),
        (
            {"WORKER_EMAIL__TRANSPORT": "resend", "WORKER_EMAIL__API_KEY": SECRET},
            "WORKER_EMAIL__SENDER is not set: set it",
        ),
        (
            {"WORKER_PAYMENTS__TRANSPORT": "stripe", "WORKER_PAYMENTS__API_KEY": f"{SECRET} {SECRET}"},
            "WORKER_PAYMENTS__API_KEY cannot be used",
        ),
    ],
)
def test_garbage_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str], said: str) -> None:
    """What is wrong is said in one line that names the variable, and never shows a secret."""
    with pytest.raises(StartupError) as caught:
        load(monkeypatch, **wrong)
    line = str(caught.value)
    assert said in line
    assert "\n" not in line
    assert SECRET not in line


def test_all_that_is_missing_is_said_at_once() -> None:
    """Who sets nothing is told of everything there is to set."""
    with pytest.raises(StartupError, match=r"WORKER_ORGANIZATION is not set.*WORKER_PROJECT is not set"):
        load_settings()


def test_help_lists_every_variable() -> None:
    """Each field of the models is in the help, with its default."""
    lines = "\n".join(variables())
    for name in Settings.model_fields:
        assert f"WORKER_{name.upper()}" in lines
    for name in (
        "EMAIL__TRANSPORT=outbox (default)",
        "EMAIL__API_KEY",
        "PAYMENTS__PATH",
        "PAYMENTS__BASE_URL",
    ):
        assert f"WORKER_{name}" in lines
    assert "[PT25S]" in lines
    assert "[var/outbox]" in lines


def test_the_connection_is_the_ecosystems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A profile of the configuration file counts, and a variable counts more."""
    file = tmp_path / "temporal.toml"
    file.write_text('[profile.stage]\naddress = "stage.example:7233"\nnamespace = "web"\n')
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(file))
    monkeypatch.setenv("TEMPORAL_PROFILE", "stage")
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "mail")
    assert connection() == {"target_host": "stage.example:7233", "namespace": "mail"}


def test_without_configuration_the_service_is_here() -> None:
    """Nothing said means the dev server's own address."""
    assert connection().get("target_host") == "localhost:7233"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("TEMPORAL_PROFILE", "nowhere", "'nowhere' not found"),
        ("TEMPORAL_CONFIG_FILE", "nowhere.toml", "there is no file 'nowhere.toml'"),
        ("TEMPORAL_TLS_CLIENT_CERT_PATH", "nowhere.pem", "nowhere.pem"),
    ],
)
def test_a_connection_that_cannot_be_read_is_one_line(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    """An unknown profile or a file that is not there is an error, and not the default instead."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(StartupError) as caught:
        connection()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
