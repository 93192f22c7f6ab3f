"""`agentfactory doctor`: what it says of this machine, and of one that lacks something."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agentfactory.cli.doctor import doctor
from agentfactory.cluster import diagnostics as checkup
from agentfactory.cluster.diagnostics import MachineCheck, MachineReport, check_machine

ROOT = Path(__file__).parents[2]


def check(found: MachineReport, name: str) -> MachineCheck:
    return next(check for check in found.checks if check.name == name)


def test_doctor_prints_one_line_a_thing_and_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(as_json=False) == 0
    *lines, verdict = capsys.readouterr().out.splitlines()
    assert verdict == "all that is needed is there"
    assert any(line.startswith("ok      ray ") for line in lines)
    assert {line.split()[0] for line in lines} <= {"ok", "without"}
    assert [line.split()[2] for line in lines if "programs: " in line] == ["bubblewrap", "landlock", "limits"]


def test_doctor_json_is_one_object_and_imports_no_torch() -> None:
    code = (
        "import sys; from agentfactory.cli import main; code = main(['doctor', '--json']);"
        "assert not {'torch', 'vllm', 'transformers', 'ray'} & set(sys.modules), 'heavy'; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found = MachineReport.model_validate(json.loads(done.stdout))
    assert found.ok
    assert check(found, "python").verdict == "ok"
    assert check(found, "python calls").found.startswith("seccomp")


def test_without_bubblewrap_it_says_what_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    found = check_machine()
    assert check(found, "bwrap").verdict == "without"
    assert "apt-get install bubblewrap" in check(found, "bwrap").advice
    level = check(found, "programs: bubblewrap")
    assert level.found == "bwrap is not installed"
    assert level.verdict == ("without" if check(found, "programs: landlock").verdict == "ok" else "missing")


def test_a_missing_package_ends_with_1_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkup, "_NEEDED", ("ray", "no-such-package"))
    assert doctor(as_json=False) == 1
    printed = capsys.readouterr().out
    assert "missing no-such-package       not installed: pip install no-such-package" in printed
    assert printed.endswith("missing: no-such-package\n")


def test_a_machine_where_no_isolation_holds_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("agentfactory.runtime.sandbox.inside.landlock.abi", lambda: 0)
    found = check_machine()
    assert not found.ok
    assert check(found, "programs: landlock").verdict == "missing"
