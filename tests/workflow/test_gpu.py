"""Jobs on CUDA that could not run, or that nothing would limit, are refused before the first job; no GPU needed."""

import pytest

pytestmark = pytest.mark.workflow
SCORES = "results/digits/dpa/clean/k4d1/scores.h5"
NO_CARD = "device is cuda, but this machine shows no card: set device: cpu, or run where there is one."
NO_BUDGET = "device is cuda, but nothing limits the GPU jobs at a time: give --resources gpu=N, here up to 2."
UNLIMITED = ("--workflow-profile", "none")


@pytest.fixture
def plan(project):
    """Calls Snakemake with `device: cuda` where nvidia-smi lists so many cards: exit status and output."""

    def call(cards: int, *arguments: str, target: str = SCORES):
        program = project.folder / "nvidia-smi"
        program.write_text("#!/bin/sh\n" + "".join(f"echo GPU-{number}\n" for number in range(cards)))
        program.chmod(0o755)
        visible = "unset CUDA_VISIBLE_DEVICES" if cards else "export CUDA_VISIBLE_DEVICES="
        prefix = f'{visible}; export PATH="{project.folder}:$PATH"'
        done = project.run(target, *arguments, config=("device=cuda",), prefix=prefix)
        return done.returncode, done.stdout

    return call


@pytest.mark.parametrize("how", [("-n",), ("--cores", "1")])
@pytest.mark.parametrize(("cards", "sentence"), [(0, NO_CARD), (2, NO_BUDGET)])
def test_refusals(project, plan, how, cards, sentence):
    status, said = plan(cards, *how, *UNLIMITED)
    assert status != 0
    assert sentence in said
    assert [path.name for path in project.path("").iterdir()] == ["README.md"]


def test_a_budget_is_enough_and_one_beyond_the_cards_is_said_to_be(plan):
    status, said = plan(2, "-n", *UNLIMITED, "--resources", "gpu=2")
    assert status == 0
    assert "visible cards" not in said
    status, said = plan(2, "-n", "--resources", "gpu=3")
    assert status == 0
    assert said.count("--resources gpu=3 is more than the visible cards (2): jobs beyond wait for one.") == 1


def test_a_cluster_has_cards_of_its_own(plan):
    status, said = plan(0, "-n", *UNLIMITED, "--jobs", "2")
    assert status == 0, said


def test_what_needs_no_gpu_runs_without_one(plan):
    status, said = plan(0, "--cores", "1", *UNLIMITED, target="results/digits/data/clean.h5")
    assert status == 0, said
