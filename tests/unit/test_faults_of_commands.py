"""What nobody has foreseen is told apart from what a command found."""

from __future__ import annotations

import pytest

from pbscast_deploy import cli


def test_a_fault_has_a_status_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> int:
        raise KeyError(54)

    monkeypatch.setattr(cli, "invoke", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 70
    assert capsys.readouterr().err.endswith("KeyError: 54\n")
