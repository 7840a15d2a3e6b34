"""What a person sees: help, verdicts, one-line errors, progress, and the next command."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aether_deploy import cli, extras
from aether_deploy.cli import output
from aether_deploy.cli.app import COMMANDS, main
from aether_deploy.samples import PHOTOS
from tests.helpers.commands import Ran, error_line
from tests.helpers.networks import SAMPLE, calm, save
from tests.helpers.videos import encode

# These run for longer, or in neosr; tests of their own run them.
ELSEWHERE = {"benchmark", "demo", "install-arch", "validate"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with what the examples name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    save(calm(scale=2, embed_dim=8, depths=(1,), lk_kernel=5, sk_kernel=3), tmp_path / "2x_Name.pth")
    shutil.copy(PHOTOS / "chelsea.png", tmp_path / "photo.png")
    return tmp_path


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No terminal, whatever the tests run in."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    yield


def example(name: str) -> str:
    command = main.get_command(main.make_context("aether-deploy", ["doctor", "-h"], resilient_parsing=True), name)
    assert isinstance(command, cli.Command)
    return command.example


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, call: Callable[..., Ran]) -> None:
    long, short = call(name, "--help"), call(name, "-h")
    assert long.out == short.out
    assert f"  aether-deploy {example(name)}\n" in long.out
    assert shlex.split(example(name))[0] == name


def test_the_list_of_commands_has_no_cut_sentences_and_one_voice(call: Callable[..., Ran]) -> None:
    text = call("-h").out.partition("Commands:\n")[2]
    sentences = " ".join(text.split())
    assert "..." not in sentences
    firsts = re.findall(r"^  ([a-z-]+) +([A-Z]\w+)", text, re.M)
    assert [name for name, _ in firsts] == list(COMMANDS)
    assert [verb for _, verb in firsts if verb.endswith("s")] == []  # "Fuse", not "Fuses"


@pytest.mark.long
def test_the_examples_run(folder: Path, call: Callable[..., Ran]) -> None:
    """In the order of a person's work."""
    (folder / "recipe.toml").write_text("checkpoint = '2x_Name.pth'\noutput = 'deployed'\n[[export]]\n")
    names = ["inspect", "fuse", "export", "parity", "verify", "upscale", "report", "release", "run", "train", "doctor"]
    for name in names:
        ran = call(*shlex.split(example(name)))
        assert ran.code == 0, (name, ran.err)
        *_, last = ran.out.rstrip().splitlines()
        assert last.startswith("next: "), name
    assert set(names) == set(COMMANDS) - ELSEWHERE


def test_the_verdict_is_one_plain_line_and_the_rows_are_for_verbose(folder: Path, call: Callable[..., Ran]) -> None:
    ran = call("export", "2x_Name.pth", "--precision", "fp16", "-o", "out")
    verdicts = [line for line in ran.out.splitlines() if line.startswith("PROVED: ")]
    assert len(verdicts) == 1
    assert re.fullmatch(
        r"PROVED: 0\.\d+ of an 8-bit level, [0-9.]+ allowed \(.*, the nearest of 15 inputs\)", verdicts[0]
    )
    assert len(ran.out.splitlines()) < 8
    assert "max abs" not in ran.out
    ran = call("export", "2x_Name.pth", "--precision", "fp16", "-o", "out", "--overwrite", "--verbose")
    assert "max abs" in ran.out
    assert "islands" in ran.out
    ran = call("parity", "2x_Name.pth", "out/2x_Name_fp16_op20.onnx")
    assert "PROVED: " in ran.out
    ran = call("parity", "2x_Name.pth", SAMPLE)
    assert ran.code == 3
    error_line(ran)


def test_nothing_is_replaced_without_being_asked(folder: Path, call: Callable[..., Ran]) -> None:
    first = {
        "fuse": ["2x_Name.pth", "-o", "f.pth"],
        "export": ["2x_Name.pth", "-o", "out"],
        "upscale": ["2x_Name.pth", "photo.png"],
        "report": ["out/2x_Name_fp32_op20.onnx"],
        "train": ["--template", "small-x4", "t.toml"],
    }
    for name, words in first.items():
        assert call(name, *words).code == 0, name
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        ran = call(name, *words)
        assert ran.code == 1, name
        assert "is there already; add --overwrite" in error_line(ran)
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
        assert call(name, *words, "--overwrite").code == 0, name


def test_trivial_errors_need_no_torch(folder: Path) -> None:
    lines = [
        ["export", "nofile.pth"],
        ["export", "2x_Name.pth", "--format", "tensorrt-rtx", "--gpu", "rtx9000"],
        ["export", "2x_Name.pth", "--precision", "bf16", "--opset", "17"],
        ["fuse", "nofile.pth"],
        ["parity", "nofile.pth", "2x_Name.pth"],
        ["upscale", "photo.png", "2x_Name.pth"],
        ["upscale", "nofile.onnx", "photo.png"],
        ["report", "nofile.onnx"],
        ["validate", "no.pth", "--against", "2x_Name.pth", "--images", "."],
        ["train", "no.toml"],
    ]
    code = (
        "import json, sys\n"
        "from click.testing import CliRunner\n"
        "from aether_deploy.cli import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    ran = CliRunner().invoke(main, words)\n"
        "    assert ran.exit_code == 1, (words, ran.output, ran.exception)\n"
        "    assert ran.stderr.startswith('error: ') and ran.stderr.count('\\n') == 1, ran.stderr\n"
        "    assert 'torch' not in sys.modules, words\n"
    )
    subprocess.run([sys.executable, "-c", code, json.dumps(lines)], check=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export", "--precison", "fp16", "x"], "no option '--precison'; did you mean '--precision'?"),
        (["export"], "missing argument 'MODEL'"),
        (["exprot"], "no command 'exprot'; did you mean 'export'?"),
        (["export", "x", "--opset", "99"], "invalid value for '--opset'"),
        (["verify", "x", "--checkpoint", "y"], "are for --parity"),
        (["train"], "--template NAME writes a file"),
    ],
)
def test_usage_errors_are_one_line_like_ours(words: list[str], message: str, call: Callable[..., Ran]) -> None:
    ran = call(*words)
    assert ran.code == 2
    assert message in error_line(ran)
    assert ran.err.count("\n") == 1
    assert "--help" in ran.err
    ran = call(*words, "--json")
    assert ran.json["exit_code"] == 2
    assert message in ran.json["error"]


def test_json_is_printed_for_every_error(folder: Path, call: Callable[..., Ran]) -> None:
    for words, code in (
        (["inspect", "nofile.pth"], 1),
        (["fuse", "2x_Name.pth", "--config", "no.toml"], 1),
        (["parity", "2x_Name.pth", str(SAMPLE)], 3),
        (["upscale", "2x_Name.pth", "no.png"], 1),
    ):
        ran = call(*words, "--json")
        assert ran.code == code, words
        assert ran.json["exit_code"] == code
        assert f"error: {ran.json['error']}" == error_line(ran)


def test_swapped_arguments_are_recognised(folder: Path, call: Callable[..., Ran]) -> None:
    ran = call("upscale", "photo.png", "2x_Name.pth")
    assert "the model comes first: aether-deploy upscale 2x_Name.pth photo.png" in error_line(ran)


def test_words_in_capital_letters_are_the_same(folder: Path, call: Callable[..., Ran]) -> None:
    (folder / "p").mkdir()
    shutil.copy("photo.png", "p/photo.png")
    assert call("upscale", "2x_Name.pth", "p", "-o", "q", "--format", "WEBP", "--device", "CPU").code == 0
    assert [path.name for path in (folder / "q").glob("[!.]*")] == ["photo.webp"]
    assert call("export", "2x_Name.pth", "--precision", "FP16", "--dry-run").code == 0


def test_a_device_that_is_not_there_says_what_to_install(folder: Path, call: Callable[..., Ran]) -> None:
    call("export", "2x_Name.pth")
    ran = call("upscale", "2x_Name_fp32_op20.onnx", "photo.png", "--device", "cuda")
    if ran.code == 0:
        pytest.skip("a GPU is here")
    assert extras.onnxruntime_gpu() in error_line(ran) or "driver" in error_line(ran)


def test_a_dry_run_names_the_same_command(folder: Path, call: Callable[..., Ran]) -> None:
    ran = call("export", "2x_Name.pth", "--dry-run", "--precision", "fp16")
    assert ran.out.splitlines()[-1] == "next: python -m aether_deploy.export 2x_Name.pth --precision fp16"


def test_a_plain_line_from_time_to_time_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, silent: None
) -> None:
    monkeypatch.setattr(output, "EVERY", 0.1)
    with cli.progress("export"):
        logging.getLogger("aether_deploy.proof.verdict").info("reference 3/15: photo")
        time.sleep(0.25)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "export: reference 3/15: photo (0 s)"
    assert 1 <= len(lines) <= 3
    time.sleep(0.15)
    assert capsys.readouterr().err == ""


def test_a_note_goes_through_the_console_that_moves(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with cli.progress("inspect"):
        logging.getLogger("aether_deploy.network").info("reading")
        time.sleep(0.15)
        logging.getLogger("aether_deploy.network").warning("took net_g_latest.pth")
    shown = capsys.readouterr().err
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "\n")
    assert "note: took net_g_latest.pth" in plain.split("\n")


def test_a_template_needs_no_clone(folder: Path, call: Callable[..., Ran]) -> None:
    ran = call("train", "--template", "Medium-X2", "--json")
    assert ran.json == {"options": "train.toml"}
    text = (folder / "train.toml").read_text()
    assert 'type = "aether_medium"' in text
    assert "#" in text
    ran = call("train", "--template", "huge")
    assert ran.code == 2
    assert "small-x2" in error_line(ran)


def test_train_looks_for_the_photos_first(folder: Path, call: Callable[..., Ran]) -> None:
    call("train", "--template", "small-x2")
    ran = call("train", "train.toml")
    assert ran.code == 1
    assert "datasets.train.dataroot_gt is" in error_line(ran)
    assert not (folder / "experiments").exists()


@pytest.mark.long
def test_ctrl_c_in_a_video_says_where_and_the_same_command_goes_on(folder: Path) -> None:
    """A film of 300 small frames, in parts of 120; stopped as soon as the first part is there."""
    encode(folder / "v.mkv", frames=300)
    words = [sys.executable, "-m", "aether_deploy.upscale", "2x_Name.pth", "v.mkv", "--device", "cpu"]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_with_interrupts
    )
    deadline = time.monotonic() + 120
    while not list(folder.glob(".*.parts/000000.nut")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    stopped = re.search(r"stopped at (\d+) of 300 frames, of which (120|240) are kept; the same command goes on", err)
    assert stopped, err
    again = subprocess.run(words, capture_output=True, text=True, check=True)
    assert re.search(r"300 frames of .* fps, \d+ s, [\d.e+]+ times real time", again.stdout), again.stdout
    assert f"resuming after {int(stopped[2]) // 120} parts" in again.stderr


def _with_interrupts() -> None:
    """What a shell starts in the background ignores SIGINT, and hands that on."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_resumed_count_goes_on() -> None:
    from aether_deploy.pictures.batch_run import Pace

    pace = Pace(288, 169)
    assert pace.step("frames").startswith("170/288 frames")
    assert "stopped at 170 of 288; the same command goes on" in str(pace.stopped())


@pytest.mark.parametrize(
    ("url", "editable", "expected"),
    [
        ("file:///clone", True, "pip install -e '/clone[tensorrt-rtx]'"),
        (
            "file:///a%20b/aether_deploy-1-py3-none-any.whl",
            False,
            "'/a b/aether_deploy-1-py3-none-any.whl[tensorrt-rtx]'",
        ),
        ("https://example.org/x.whl", False, "'aether_deploy-"),
    ],
)
def test_hints_install_what_is_here(url: str, editable: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Installed:
        def read_text(self, name: str) -> str:
            assert name == "direct_url.json"
            return json.dumps({"url": url, "dir_info": {"editable": editable}})

    monkeypatch.setattr(extras, "distribution", lambda _: Installed())
    assert expected in extras.install_extra("tensorrt-rtx")


def test_in_the_clone_itself_the_hint_is_short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Installed:
        def read_text(self, _name: str) -> str:
            return json.dumps({"url": f"file://{tmp_path}", "dir_info": {"editable": True}})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(extras, "distribution", lambda _: Installed())
    assert extras.install_extra("test") == "pip install -e '.[test]'"


def test_two_onnx_runtimes_are_found_and_the_sequence_is_exact(
    call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    from aether_deploy.artifacts import onnx_providers

    monkeypatch.setattr(onnx_providers, "clashing_onnxruntimes", lambda: True)
    rows = {row["name"]: row for row in call("doctor", "--json").json["findings"]}
    assert rows["ONNX Runtime"]["works"] is False
    assert rows["ONNX Runtime"]["remedy"] == (
        "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
    )


def test_no_colour_where_none_is_wanted(folder: Path) -> None:
    words = [sys.executable, "-m", "aether_deploy.verify", "."]
    env = {**os.environ, "NO_COLOR": "1", "FORCE_COLOR": "1"}
    ran = subprocess.run(words, capture_output=True, text=True, check=False, env=env)
    assert "\x1b[3" not in ran.stdout


def test_completion_is_there_in_bash(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("aether-deploy")
    if not script.exists():
        pytest.skip("not installed")
    ran = subprocess.run(
        [script],
        env={
            **os.environ,
            "_AETHER_DEPLOY_COMPLETE": "bash_complete",
            "COMP_WORDS": "aether-deploy exp",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "plain,export\n"
