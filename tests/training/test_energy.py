"""Energy is the difference of the machine's own counters."""

from pathlib import Path

from ftkit.training.energy import EnergyMeter


def counter(folder: Path, name: str, microjoules: int) -> None:
    package = folder / name
    package.mkdir(exist_ok=True)
    (package / "energy_uj").write_text(f"{microjoules}\n")
    (package / "max_energy_range_uj").write_text("262143328850\n")


def test_packages_are_added_and_a_counter_may_begin_anew(tmp_path: Path) -> None:
    counter(tmp_path, "intel-rapl:0", 5_000_000)
    counter(tmp_path, "intel-rapl:1", 262_143_000_000)
    counter(tmp_path, "intel-rapl:0:0", 1_000_000)  # the cores, which the package counts already
    meter = EnergyMeter(tmp_path)
    counter(tmp_path, "intel-rapl:0", 12_500_000)
    counter(tmp_path, "intel-rapl:1", 671_150)
    counter(tmp_path, "intel-rapl:0:0", 9_000_000)
    assert meter.joules() == {"processor": 8.5}


def test_a_machine_that_does_not_tell_has_none(tmp_path: Path) -> None:
    assert EnergyMeter(tmp_path / "nothing").joules() == {}
