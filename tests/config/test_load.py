"""Where a configuration's values come from, and what is said of those that are wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from excise_agent.config import Config, ConfigError, Loaded, load, load_config, needs_restart
from excise_agent.config.document import DEFAULT_CONFIG
from excise_agent.config.kinds import quoted
from excise_agent.config.schema import AgentConfig, LogConfig

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, name: str = "config.toml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


def said(path: Path | None, **more: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, **more)  # type: ignore[arg-type]
    return str(caught.value).splitlines()


def loaded(path: Path | None, **more: dict[str, str]) -> Loaded:
    return load(path, **more)  # type: ignore[arg-type]


def test_nothing_at_all_is_the_default(tmp_path: Path) -> None:
    found = load(None, {}, {}, default=tmp_path / "config.toml")
    assert found.config == Config() and found.files == ()
    assert {str(origin) for origin in found.origins.values()} == {"default"}


def test_the_default_file_is_read_when_none_is_named(write: Write) -> None:
    assert load(None, default=write("[agent]\nrate_hz = 7\n")).config.agent.rate_hz == 7


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    assert said(tmp_path / "none.toml") == [f"{tmp_path}/none.toml: no such file"]


def test_command_line_beats_environment_beats_conf_d_beats_file(write: Write) -> None:
    path = write('[agent]\nrate_hz = 1\nwindow = "1s"\nbudget = "1%"\n[log]\nlevel = "debug"\n')
    write('[agent]\nrate_hz = 2\nwindow = "2s"\nbudget = "2%"\n', "conf.d/10-a.toml")
    write('[agent]\nrate_hz = 3\nwindow = "3s"\n', "conf.d/20-b.toml")
    write("nonsense", "conf.d/30-c.conf")
    write("nonsense", "conf.d/.40-d.toml")
    environ = {"EXCISE_AGENT_RATE_HZ": "4", "EXCISE_AGENT_WINDOW": "4s", "HOME": "/root"}
    found = loaded(path, environ=environ, overrides={"agent.rate_hz": "5"})
    assert found.config.agent == AgentConfig(rate_hz=5, window_s=4, budget_ratio=0.02)
    assert found.config.log == LogConfig("debug")
    folder = path.parent
    assert {key: str(found.origins[key]) for key in ("agent.rate_hz", "agent.window", "agent.budget", "log.level")} == {
        "agent.rate_hz": "command line", "agent.window": "environment EXCISE_AGENT_WINDOW",
        "agent.budget": f"{folder}/conf.d/10-a.toml:4", "log.level": f"{path}:6"}
    assert [file.name for file in found.files] == ["config.toml", "10-a.toml", "20-b.toml"]


def test_arrays_of_tables_add_up_and_lists_do_not(write: Write) -> None:
    path = write('[discovery]\nlibraries = ["a"]\n[[forward]]\nname = "one"\n[[discovery.workload]]\nuser = "x"\n')
    write('[discovery]\nlibraries = ["b"]\n[[forward]]\nname = "two"\ntls = { enabled = true }\n', "conf.d/1.toml")
    config = load_config(path)
    assert config.discovery.libraries == ("b",)
    assert [(sink.name, sink.tls.enabled) for sink in config.forward] == [("one", False), ("two", True)]
    assert config.discovery.workloads[0].user == "x"


def test_the_environment_parts_lists_by_commas() -> None:
    environ = {"EXCISE_DISCOVERY_LIBRARIES": "libfoo*.so*, libbar.so", "EXCISE_PROMETHEUS_ENABLED": "false"}
    config = load_config(None, environ)
    assert config.discovery.libraries == ("libfoo*.so*", "libbar.so")
    assert config.prometheus.enabled is False


def test_everything_that_is_wrong_is_said_at_once_with_file_line_and_nearest_key(write: Write) -> None:
    path = write("""\
rate_hz = 4
[agent]
ratehz = 3
rate_hz = "fast"
[discovery]
libraries = [
  "libfoo.so",
  5,
]
[log]
level = "warn"
[histroy]
[[forward]]
addres = 1
""")
    wrong = said(path, environ={"EXCISE_AGENT_RATEHZ": "3"}, overrides={"log.levle": "info"})
    assert wrong == [
        f'{path}:1: unknown key "rate_hz": it belongs under [agent]',
        f'{path}:3: unknown key "ratehz" in [agent]; did you mean "rate_hz"?',
        f'{path}:4: "rate_hz" must be a number from 0 to 1000, not \'fast\'',
        f'{path}:8: "libraries" must be a list of shell patterns, not 5',
        f'{path}:11: "level" must be one of debug, info, warning, error, not \'warn\'; did you mean "warning"?',
        f'{path}:12: unknown key "histroy"; did you mean "history"?',
        f'{path}:14: unknown key "addres" in [[forward]]; did you mean "address"?',
        'environment EXCISE_AGENT_RATEHZ: sets nothing that there is; did you mean "EXCISE_AGENT_RATE_HZ"?',
        'command line: unknown key "log.levle"; did you mean "log.level"?',
    ]


@pytest.mark.parametrize(("text", "message"), [
    ("a = = 1\n", ":1: is not TOML: Invalid value"),
    ("agent = 5\n", ':1: "agent" must be a table, like [agent], not 5'),
    ("[forward]\n", ':1: "forward" must be an array of tables, like [[forward]]'),
    ("[[discovery.workload]]\nname = 'x'\n",
     ":1: would match every process: give it command, cgroup, unit, container or user"),
    ("[[forward]]\n[[forward]]\n",
     ':2: "forward[1].name" is "forward", as another sink is called: give each a name of its own'),
    ("[[forward]]\n[forward.tls]\nca_file = '/x'\n",
     ':3: "enabled" is false, so that nothing would be encrypted: set enabled = true, or remove the others'),
    ("[[forward]]\n[forward.tls]\nenabled = true\ncert_file = '/x'\n",
     ':3: cert_file and key_file belong together: give both or none'),
    ("[agent]\nwindow = '10m'\n[history]\nkeep = '1m'\n",
     ':4: "history.keep" is shorter than agent.window: nothing would be kept'),
])
def test_a_file_that_makes_no_sense_is_refused(write: Write, text: str, message: str) -> None:
    path = write(text)
    assert said(path) == [f"{path}{message}"]


def test_a_wrong_value_is_an_error_also_where_a_later_file_has_a_good_one(write: Write) -> None:
    path = write("[agent]\nrate_hz = -1\n")
    write("[agent]\nrate_hz = 9\n", "conf.d/1.toml")
    assert len(said(path)) == 1


def test_a_secret_in_the_configuration_is_refused_and_not_repeated(write: Write) -> None:
    path = write("[[clickhouse]]\nurl = 'http://u:hunter2@x'\npassword = 'hunter2'\n"
                 "[[forward]]\nshared_key = 'hunter2'\n")
    wrong = "\n".join(said(path))
    assert "hunter2" not in wrong
    assert 'did you mean "password_file"?' in wrong and 'did you mean "shared_key_file"?' in wrong


def test_the_environment_that_kubernetes_makes_of_a_service_is_not_ours() -> None:
    environ = {"EXCISE_AGENT_SERVICE_HOST": "10.0.0.1", "EXCISE_AGENT_SERVICE_PORT_METRICS": "9477",
               "EXCISE_AGENT_PORT": "tcp://10.0.0.1:9477", "EXCISE_AGENT_PORT_9477_TCP_ADDR": "10.0.0.1",
               "EXCISE_NUMBA_CACHE": "x"}
    assert load_config(None, environ) == Config()


def test_control_characters_of_a_file_do_not_reach_the_terminal(write: Write) -> None:
    path = write('"\\u001b[31m" = 1\n[log]\nlevel = "\\u001b]0;x\\u0007"\n')
    assert all(line.isprintable() for line in said(path))


def test_what_a_running_agent_cannot_take_over_is_named(write: Write) -> None:
    new = load_config(write("[agent]\nrate_hz = 9\ngroup = 'ops'\n"))
    assert needs_restart(Config(), new) == ("agent.group",)
    assert needs_restart(new, new) == ()


WORDS = sorted(set(re.findall(r"(?m)^#?\[*([a-z_.]+)", DEFAULT_CONFIG.read_text())))
VALUES = st.recursive(
    st.sampled_from(["1", "-1", "1e400", "nan", "true", '"10s"', '"1%"', '"/x"', "1979-05-27", '"a:1"', "9" * 30])
    | st.text(st.characters(codec="utf-8"), max_size=8).map(quoted),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
    | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3).map(
        lambda pairs: f"{{ {', '.join(f'{quoted(key)} = {value}' for key, value in pairs.items())} }}"),
    max_leaves=4)
LINES = st.lists(st.one_of(
    st.tuples(st.sampled_from(WORDS), VALUES).map(lambda pair: f"{pair[0].strip('.') or 'x'} = {pair[1]}"),
    st.sampled_from(["[agent]", "[log]", "[[forward]]", "[forward.tls]", "[[discovery.workload]]", "[[clickhouse]]"]),
    st.text(max_size=8)), max_size=8)


@given(LINES)
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_file_whatever_does_more_than_be_refused(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes("\n".join(lines).encode(errors="surrogatepass"))
    try:
        load(path)
    except ConfigError as error:
        assert all(str(problem).isprintable() for problem in error.problems)
        assert all(problem.origin.line <= len(lines) + 8 for problem in error.problems)
