"""Where the laboratory's commands find scenarios: see `vcpud_simulator.reading`."""

from vcpud_simulator.reading import find_scenario, read_scenario, scenario_names

__all__ = ["find_scenario", "read_scenario", "scenario_names"]
