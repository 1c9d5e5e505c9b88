"""Flags win over variables, variables over the config file; what cannot be meant is refused before anything is done."""

from __future__ import annotations

import grp
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from credrotator.app.settings import Settings
from credrotator.cli.config_file import load_config
from credrotator.cli.main import cli
from credrotator.cli.options import setting
from credrotator.cli.parameters import ForIssuers, Span
from credrotator.cli.setting_option import SettingOption
from credrotator.core.errors import UsageError
from credrotator.core.model import ObjectKey
from credrotator.exchange.issuers.routes import IssuerRoutes
from credrotator.files.atomic import Access
from credrotator.providers.azure.policy import PUBLIC_AUTHORITY

seen: dict[str, Any] = {}


@click.command()
@setting("--workers", type=click.IntRange(1, 64), default=16)
@setting("-f", "--filename", multiple=True)
@setting("--within", type=Span(), default="0s")
@setting("--dry-run", is_flag=True)
@setting("--config", is_eager=True, callback=load_config, expose_value=False)
def ignore_retry_after(**options: Any) -> None:
    """Note what the settings came to."""
    seen.clear()
    seen.update(options)


@click.command()
@setting("--listen")
def neighbour(listen: str) -> None:
    """Be another command with another setting."""


both = click.Group(commands={"probe": ignore_retry_after, "neighbour": neighbour})


def run(*arguments: str, **variables: str) -> str:
    """Run the probe; return what it complains of."""
    result = CliRunner().invoke(both, ["probe", *arguments], env=variables)
    assert result.exit_code in {0, 2}, result.output
    assert (result.exit_code == 2) == bool(result.output)
    return result.output


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a config file that sets each option."""
    path = tmp_path / "config.yaml"
    path.write_text("workers: 3\nfilename: [file-a, file-b]\nwithin: 3m\ndry-run: true\n")
    return path


class TestPrecedence:
    """Each pair of sources."""

    def test_default(self) -> None:
        """Without any source the default holds."""
        run()
        assert seen == {"workers": 16, "filename": (), "within": timedelta(0), "dry_run": False}

    def test_config_over_default(self, config: Path) -> None:
        """The config file wins over defaults."""
        run("--config", str(config))
        assert seen == {
            "workers": 3,
            "filename": ("file-a", "file-b"),
            "within": timedelta(minutes=3),
            "dry_run": True,
        }

    def test_variable_over_config(self, config: Path) -> None:
        """Variables win over the config file, which itself may be named by one."""
        run(
            CREDROTATOR_CONFIG=str(config),
            CREDROTATOR_WORKERS="4",
            CREDROTATOR_FILENAME="env-a env-b",
            CREDROTATOR_WITHIN="4m",
            CREDROTATOR_DRY_RUN="0",
        )
        assert seen == {
            "workers": 4,
            "filename": ("env-a", "env-b"),
            "within": timedelta(minutes=4),
            "dry_run": False,
        }

    def test_flag_over_variable(self) -> None:
        """Flags win over variables."""
        run("--workers", "5", "-f", "flag", "--within", "5m", CREDROTATOR_WORKERS="4", CREDROTATOR_FILENAME="env")
        assert (seen["workers"], seen["filename"], seen["within"]) == (5, ("flag",), timedelta(minutes=5))

    def test_flag_over_config(self, config: Path) -> None:
        """Flags win over the config file."""
        run("--config", str(config), "--workers", "5", "-f", "flag")
        assert (seen["workers"], seen["filename"], seen["within"]) == (5, ("flag",), timedelta(minutes=3))


class TestWhereFrom:
    """An error names where the value came from, and nothing else that it might have come from."""

    def test_config(self, config: Path) -> None:
        """The file and its key."""
        config.write_text("within: soon\n")
        output = run("--config", str(config))
        assert f"Invalid value for '--config': {config}: within: " in output
        assert "CREDROTATOR" not in output
        config.write_text("dry-run: perhaps\n")
        assert f"Invalid value for '--config': {config}: dry-run: " in run("--config", str(config))

    def test_variable(self, config: Path) -> None:
        """The variable."""
        output = run("--config", str(config), CREDROTATOR_WITHIN="soon")
        assert "Invalid value for '--within' (env var: 'CREDROTATOR_WITHIN'): " in output

    def test_flag(self, config: Path) -> None:
        """The option alone."""
        output = run("--config", str(config), "--within", "soon", CREDROTATOR_WITHIN="3m")
        assert "Invalid value for '--within': " in output


class TestEmpty:
    """A shell's variable that is not set must not mean the working directory, or the default of something."""

    def test_in_each_place(self, config: Path) -> None:
        """On the command line, as one of several in a variable, and in the config file."""
        assert "Invalid value for '-f' / '--filename': the value is empty" in run("-f", "a", "-f", "")
        output = CliRunner().invoke(cli, ["status"], env={"CREDROTATOR_FILENAME": ":"}).output
        assert "(env var: 'CREDROTATOR_FILENAME'): the value is empty" in output
        config.write_text("filename: ''\n")
        assert f"'--config': {config}: filename: the value is empty" in run("--config", str(config))
        assert "Invalid value for '--config': the value is empty" in run("--config", "")

    def test_a_variable_that_is_empty(self) -> None:
        """It counts as one that is not set."""
        assert run(CREDROTATOR_FILENAME="", CREDROTATOR_CONFIG="") == ""
        assert seen["filename"] == ()

    @pytest.mark.parametrize("name", ["rotate", "run", "renew", "status", "check", "wait", "convert", "sandbox"])
    def test_each_option(self, name: str) -> None:
        """Of each command, each option that takes a text, but a selector, which selects all if it is empty."""
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        options = [option for option in command.params if isinstance(option, SettingOption) and not option.is_flag]
        refusing = [option.opts[-1] for option in options if option.name != "selector"]
        assert refusing
        for option in refusing:
            result = CliRunner().invoke(cli, [name, option, ""])
            assert ("Invalid value for" in result.output, result.exit_code) == (True, 2), option

    @pytest.mark.parametrize("option", ["-f", "--out", "--kubeconfig", "--context", "-n", "--ca-file", "--config"])
    def test_texts(self, option: str) -> None:
        """What has no form of its own is called empty, with what may have come of it."""
        output = CliRunner().invoke(cli, ["check", option, ""]).output
        assert "the value is empty; see whether a variable is not set" in output


class TestConfig:
    """The config file itself."""

    def test_single_value(self, config: Path) -> None:
        """One value for a repeatable option need not be a list, and is not taken apart into letters."""
        config.write_text("filename: file-a")
        run("--config", str(config))
        assert seen["filename"] == ("file-a",)

    def test_of_another_command(self, config: Path) -> None:
        """One file serves all commands: what only another one knows is passed over."""
        config.write_text("workers: 3\nlisten: 0.0.0.0:9090\n")
        assert run("--config", str(config)) == ""
        assert seen["workers"] == 3

    @pytest.mark.parametrize("text", ["worker: 3", "names: [a/b]", "config: other.yaml", "dry_run: true", "1: 2"])
    def test_unknown(self, config: Path, text: str) -> None:
        """A key that no command knows is refused, with those that are known."""
        config.write_text(text)
        output = run("--config", str(config))
        assert f"unknown settings: {text.partition(':')[0]}" in output
        assert "dry-run" in output

    @pytest.mark.parametrize("text", ["- a", "just text", "3"])
    def test_no_settings(self, config: Path, text: str) -> None:
        """A file that holds no settings is refused."""
        config.write_text(text)
        assert "expected settings" in run("--config", str(config))

    def test_empty(self, config: Path) -> None:
        """An empty file sets nothing, and a key without a value leaves its default."""
        config.write_text("# nothing yet\n")
        run("--config", str(config))
        config.write_text("workers:\n")
        run("--config", str(config))
        assert seen["workers"] == 16

    def test_not_yaml(self, config: Path) -> None:
        """What is not YAML, or not text, is named."""
        config.write_text("a: [")
        assert "is not YAML" in run("--config", str(config))
        config.write_bytes(b"\xff\xfe")
        assert "is not YAML" in run("--config", str(config))

    def test_missing(self, config: Path) -> None:
        """A file that is not there, or is a directory, is named."""
        assert "cannot read" in run("--config", f"{config}.not-there")
        assert "cannot read" in run("--config", str(config.parent))

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("within: {a: b}", "within: expected one value"),
            ("within: [3m]", "within: expected one value"),
            ("workers: [[1]]", "workers: expected one value"),
            ("dry-run: {}", "dry-run: expected one value"),
            ("dry-run: [true]", "dry-run: expected one value"),
            ("filename: {a: b}", "filename: expected values, one per line"),
            ("filename: [a, {b: c}]", "filename: expected values, one per line"),
            ("filename: [[a]]", "filename: expected values, one per line"),
            ("filename: yes", "filename: expected a text; quote the value"),
            ("within: on", "within: expected a text; quote the value"),
        ],
    )
    def test_another_shape(self, config: Path, text: str, words: str) -> None:
        """A mapping, a list or a truth value where a text is expected is named with its setting, in any file."""
        config.write_text(text)
        assert words in run("--config", str(config))

    @pytest.mark.parametrize(
        "text",
        ["workers: !!int ''", "workers: !!bool perhaps", "workers: 1\nworkers: 2", "&a [*a]", "a: *b", "[" * 5000],
    )
    def test_hostile_yaml(self, config: Path, text: str) -> None:
        """What no reader of YAML takes is one sentence."""
        config.write_text(text)
        assert "is not YAML" in run("--config", str(config))

    def test_aliases(self, config: Path) -> None:
        """A file of one's own may have them; a byte order mark, and a number that looks like an address, are fine."""
        config.write_text("\ufefffilename: &names [&one 12:30, b]\n", encoding="utf-8")
        run("--config", str(config))
        assert seen["filename"] == ("12:30", "b")

    @pytest.mark.parametrize("name", ["/dev/zero", "/dev/null/x", "a" * 300, "pipe"])
    def test_what_cannot_be_read(self, tmp_path: Path, name: str) -> None:
        """A device without end, a file as a directory, a name that is too long, a pipe: none hangs."""
        os.mkfifo(tmp_path / "pipe")
        assert "cannot read" in run("--config", str(tmp_path / name))

    @pytest.mark.parametrize("text", ["workers: many", "workers: 99", "within: 5", "within: -5m", "dry-run: perhaps"])
    def test_bad_value(self, config: Path, text: str) -> None:
        """A value of the wrong kind is refused as on the command line."""
        config.write_text(text)
        assert "Invalid value" in run("--config", str(config))


class TestDurations:
    """Durations on the command line."""

    @pytest.mark.parametrize(("text", "span"), [("90s", 90), ("1h30m", 5400), ("0", 0), ("1d", 86400), ("0.5h", 1800)])
    def test_understood(self, text: str, span: int) -> None:
        """Go's notation, and days."""
        run("--within", text)
        assert seen["within"] == timedelta(seconds=span)

    @pytest.mark.parametrize("text", ["5", "5 m", "", "-5m", "m", "1h1", "1e3s", "99999999d", "five"])
    def test_refused(self, text: str) -> None:
        """What is none is refused, with an example."""
        output = run(f"--within={text}")
        assert "--within" in output
        assert "30m" in output or "ten years" in output


class TestSettings:
    """What the commands that read policies share."""

    def test_ca_file(self, tmp_path: Path) -> None:
        """A CA file that is not there is refused at once, not at the first handshake."""
        with pytest.raises(UsageError, match="no such file"):
            Settings(("x",), ca_file=str(tmp_path / "missing.pem"))

    def test_out_is_a_file(self, tmp_path: Path) -> None:
        """A file in the place of the directory for credentials is refused once, not for each policy."""
        (tmp_path / "file").write_text("x")
        with pytest.raises(UsageError, match="is not a directory"):
            Settings(("x",), out=tmp_path / "file")
        assert Settings(("x",), out=tmp_path / "not-there-yet").out

    @pytest.mark.parametrize("target", ["real", "nowhere"])
    def test_out_is_a_link(self, tmp_path: Path, target: str) -> None:
        """Whoever may write beside it could lead it elsewhere; a link above it is the operator's (security 12)."""
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(target)
        with pytest.raises(UsageError, match="this is a link; name the directory that it leads to"):
            Settings(("x",), out=tmp_path / "link")
        (tmp_path / "above").symlink_to("real")
        assert Settings(("x",), out=tmp_path / "above" / "out").out

    @pytest.mark.parametrize("name", ["a" * 300, "a\0b"])
    def test_paths_that_cannot_be_looked_at(self, tmp_path: Path, name: str) -> None:
        """As below a directory that may not be entered: one sentence for each option, not a traceback."""
        path = tmp_path / name
        routes = IssuerRoutes(ca_files=(("https://idp.example/*", str(path)),))
        for option, settings in (
            ("--out", {"out": path}),
            ("--ca-file", {"ca_file": str(path)}),
            ("--issuer-ca", {"routes": routes}),
        ):
            with pytest.raises(UsageError, match=option):
                Settings(("x",), **settings)

    @pytest.mark.parametrize("name", ["/dev/zero", "pipe", "."])
    def test_ca_files_are_files(self, tmp_path: Path, name: str) -> None:
        """Nothing that could hang a handshake."""
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(UsageError, match="this is not a regular file"):
            Settings(("x",), ca_file=str(tmp_path / name))

    def test_out_group(self, tmp_path: Path) -> None:
        """By name or number; only a group that this process can give files to, and only with a directory."""
        number = os.getegid()
        for name in (str(number), grp.getgrgid(number).gr_name):
            assert Settings(("x",), out=tmp_path / "out", out_group=name).access == Access(number)
        assert Settings(("x",), out=tmp_path / "out").access == Access()
        with pytest.raises(UsageError, match="--out-group goes with --out"):
            Settings(("x",), out_group=str(number))
        for name in ("no-such-group", "-1", "1.5", "9" * 30):
            with pytest.raises(UsageError, match="there is no such group"):
                Settings(("x",), out=tmp_path / "out", out_group=name)

    def test_out_group_of_others(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Said at once, not by each file."""
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        with pytest.raises(UsageError, match="this process is not in the group"):
            Settings(("x",), out=tmp_path / "out", out_group="54321")

    def test_selectors_of_manifests(self) -> None:
        """``-l`` and ``-R`` with ``-f``; what is no selector is refused before anything is read."""
        options = Settings(("x",), selector="team=a", recursive=True).manifest_options
        assert (options.selector, options.recursive) == ("team=a", True)
        with pytest.raises(UsageError, match=r"--selector team=a,: expected labels such as"):
            Settings(("x",), selector="team=a,")
        with pytest.raises(UsageError, match="--recursive goes with -f"):
            Settings((), recursive=True)
        assert Settings((), selector="anything > the server understands").selector

    def test_issuer_ca(self, tmp_path: Path) -> None:
        """A CA file of single issuers has to be there as well."""
        (tmp_path / "ca.pem").touch()
        Settings(("x",), routes=IssuerRoutes(ca_files=(("https://idp.example/*", str(tmp_path / "ca.pem")),)))
        with pytest.raises(UsageError, match=r"--issuer-ca https://idp\.example/.*no such file"):
            Settings(("x",), routes=IssuerRoutes(ca_files=(("https://idp.example/*", "missing.pem"),)))

    @pytest.mark.parametrize("proxy", ["http://proxy:3128", "https://user:word@proxy", "direct"])
    def test_issuer_proxy(self, proxy: str) -> None:
        """A URL, or none."""
        Settings(("x",), routes=IssuerRoutes(proxies=(("https://idp.example/*", proxy),)))

    def test_issuer_proxy_that_is_none(self) -> None:
        """What is no proxy is refused before anything is sent, and its password not shown."""
        with pytest.raises(UsageError, match=r"--issuer-proxy https://idp\.example/") as caught:
            Settings(("x",), routes=IssuerRoutes(proxies=(("https://idp.example/*", "socks5://me:canary@proxy"),)))
        assert "canary" not in str(caught.value)

    @pytest.mark.parametrize("text", ["/etc/ca.pem", "idp.example=/etc/ca.pem", "https://idp.example/*=", ""])
    def test_for_issuers(self, text: str) -> None:
        """A value for issuers names them by a glob of URLs."""
        assert ForIssuers("PEM").convert("https://idp.example/*=a=b", None, None) == ("https://idp.example/*", "a=b")
        with pytest.raises(click.BadParameter, match="expected GLOB=PEM"):
            ForIssuers("PEM").convert(text, None, None)

    def test_token_files(self) -> None:
        """By name, for all or for one namespace; what the path holds is seen when a policy needs it."""
        paths = Settings(("x",), token_files=("pod=/run/a", "team-a/pod=/run/b=c d")).token_paths()
        assert paths == {ObjectKey("", "pod"): Path("/run/a"), ObjectKey("team-a", "pod"): Path("/run/b=c d")}

    @pytest.mark.parametrize(
        "text", ["", "pod", "pod=", "pod=token", "=/run/a", "a/b/c=/run/a", "Pod=/run/a", "../x=/a"]
    )
    def test_bad_token_files(self, text: str) -> None:
        """What is none is wrong use, at once, with the form that is expected."""
        with pytest.raises(UsageError, match="expected NAME=/absolute/path"):
            Settings(("x",), token_files=("fine=/run/a", text))

    @pytest.mark.parametrize("name", ["token", "../serviceaccount/token", "./token"])
    def test_the_token_for_the_api_server(self, name: str) -> None:
        """Shown to a vendor, it would open the cluster to that vendor."""
        with pytest.raises(UsageError, match="audience of its own"):
            Settings(("x",), token_files=(f"pod=/var/run/secrets/kubernetes.io/serviceaccount/{name}",))

    def test_token_files_that_are_named_twice(self) -> None:
        """Which is meant, nobody can tell."""
        with pytest.raises(UsageError, match="team-a/pod is named twice"):
            Settings(("x",), token_files=("team-a/pod=/a", "pod=/a", "team-a/pod=/b"))

    @pytest.mark.parametrize("glob", [
        "", "*", "idp.example", "*.example", "ftp://idp.example", "https://", "https:///x", "//idp.example", "https*",
        "https://idp example",
    ])  # fmt: skip
    def test_bad_globs(self, glob: str) -> None:
        """A glob that can match no issuer is a mistake, which would silently shut everybody out."""
        with pytest.raises(UsageError, match="--allowed-issuer"):
            Settings(("x",), allowed_issuers=("https://fine.example", glob))

    @pytest.mark.parametrize("glob", [
        "https://idp.example/*", "https://*.idp.example", "http://localhost:8080/realms/*", "https://*", "HTTPS://x/*",
        "https://idp[ab].example/", "https://[::1]:8443",
    ])  # fmt: skip
    def test_good_globs(self, glob: str) -> None:
        """Globs over whole URLs are fine, in host and path."""
        assert Settings(("x",), allowed_issuers=(glob,)).allowed_issuers == (glob,)

    @pytest.mark.parametrize(("host", "authority"), [
        ("", "https://login.microsoftonline.com"),
        ("  ", "https://login.microsoftonline.com"),
        ("login.microsoftonline.us", "https://login.microsoftonline.us"),
        ("https://login.microsoftonline.us", "https://login.microsoftonline.us"),
        ("https://login.microsoftonline.us/", "https://login.microsoftonline.us"),
        (" login.chinacloudapi.cn/ ", "https://login.chinacloudapi.cn"),
        ("localhost:9445", "https://localhost:9445"),
    ])  # fmt: skip
    def test_authority(self, host: str, authority: str) -> None:
        """AZURE_AUTHORITY_HOST is a host with or without https:// before and a slash behind it, as in Azure's SDKs."""
        settings = Settings(("x",), environment={"AZURE_AUTHORITY_HOST": host})
        assert settings.defaults.options.get("azure-authority-host", PUBLIC_AUTHORITY) == authority

    @pytest.mark.parametrize("host", [
        "http://login.microsoftonline.us", "https://a/b", "https://a?b", "https://a#b", "https://user@a", "https://[a",
        "https://https://a", "a b", "ftp://a", "https://", "a:b", "a:123456", "x\nHost: evil",
    ])  # fmt: skip
    def test_bad_authority(self, host: str) -> None:
        """Anything else is refused: a client secret would be posted there."""
        with pytest.raises(UsageError, match="AZURE_AUTHORITY_HOST"):
            _ = Settings(("x",), environment={"AZURE_AUTHORITY_HOST": host}).defaults

    def test_namespace(self) -> None:
        """``-n`` is the namespace of manifests that name none; else it is ``default``."""
        assert Settings(("x",), environment={}).defaults.namespace == "default"
        assert Settings(("x",), namespaces=("prod",), environment={}).defaults.namespace == "prod"
