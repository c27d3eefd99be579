"""`anomaly-gan report` and `compare` on a real run, as commands."""

import subprocess
import sys
from pathlib import Path

from anomaly_gan.results import RunResult


def test_report_on_a_real_run_writes_four_files_and_names_them(command, trained: Path) -> None:
    done = command("report", str(trained), "--output", "out")
    assert done.code == 0
    assert "1 run on 1 data set" in done.out
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "report.csv", "report.html", "report.md", "report.tex",
    ]  # fmt: skip
    result = RunResult.read(trained)
    assert result.classes == [str(digit) for digit in range(10)]
    assert f"{100 * result.auroc[result.primary]:.1f} (1 of 10 classes)" in Path("out/report.md").read_text()


def test_compare_a_run_with_itself_finds_nothing(command, trained: Path) -> None:
    done = command("compare", str(trained), str(trained), "--score", "paper")
    assert done.code == 0
    assert "+0.00     +0.00 to   +0.00    1.0000" in done.out


def test_input_that_cannot_be_used_is_one_line_and_code_2(command, trained: Path) -> None:
    for arguments, said in (
        (["report", "."], ".: no result.json in or below it"),
        (["report", "nowhere"], "nowhere: no such folder"),
        (["report", str(trained), "--score", "papr"], "did you mean paper"),
        (["compare", str(trained), "nowhere"], "nowhere: no such folder"),
        (["report"], "required: DIR"),
    ):
        done = command(*arguments)
        assert done.code == 2
        assert said in done.err
        assert "Traceback" not in done.err


def test_neither_command_loads_torch() -> None:
    loaded = "import sys, anomaly_gan.cli.report, anomaly_gan.cli.compare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded], check=False).returncode == 0
