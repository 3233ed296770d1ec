"""What profiles say of rules, against the rules; that every key is explained."""

import re

import pytest
import yaml

from tests.workflow.conftest import ROOT

RULES = "\n".join(path.read_text() for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")))
SLURM = ROOT / "profiles" / "slurm" / "config.yaml"


def rules_with_card() -> set[str]:
    found: set[str] = set()
    for rule in re.split(r"^ *(?:use )?rule ", RULES, flags=re.M)[1:]:
        head, body = rule.split(":\n", 1)
        base, _, name = head.removesuffix(" with").partition(" as ")
        if "gpu=gpus" in body or base in found:
            found.add(name or base)
    return found


@pytest.mark.parametrize("profile", ["default", "slurm"])
def test_every_key_of_a_profile_is_explained(profile):
    lines = (ROOT / "profiles" / profile / "config.yaml").read_text().splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r" *[\w-]+:(?! \*gpu)", line)]
    assert len(keys) >= 4
    for number in keys:
        assert lines[number - 1].lstrip().startswith("# "), lines[number]


def test_every_rule_that_uses_a_card_is_sent_to_one():
    profile = yaml.safe_load(SLURM.read_text())
    assert len(rules_with_card()) > 20
    assert profile["set-resources"].keys() == rules_with_card()
    assert {asked["slurm_partition"] for asked in profile["set-resources"].values()} == {"gpu"}
    assert set(profile["slurm-array-jobs"].split(",")) <= rules_with_card()


def test_scattered_processes_are_those_of_the_workflow():
    profile = yaml.safe_load(SLURM.read_text())
    for process in profile["set-scatter"]:
        assert f"    {process}=" in (ROOT / "Snakefile").read_text()
