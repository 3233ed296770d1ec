"""One reader under coverage-guided fuzzing: python -m tests.fuzz.harness READER [libFuzzer's options]. Needs Atheris."""

import sys
import warnings
from random import Random

import atheris

with atheris.instrument_imports(include=["mithridate", "PIL"]):
    from tests.fuzz.damage import MOST, damaged
    from tests.fuzz.readers import READERS, check, fresh_folder, remove


def main() -> None:
    reader = READERS[sys.argv.pop(1)]
    whole, folder = reader.whole(), fresh_folder()
    corpus = fresh_folder()
    for number, content in enumerate(whole):
        assert check(reader, folder, content) is None  # the seeds are whole
        (corpus / str(number)).write_bytes(content)
    warnings.simplefilter("ignore")

    def mutate(content: bytes, most: int, seed: int) -> bytes:
        random = Random(seed)
        fresh = random.random() < 0.3
        return damaged(reader.suffix, random.choice(whole) if fresh else content, random, fresh)[:most]

    atheris.Setup(
        [*sys.argv, str(corpus), f"-max_len={MOST}", "-timeout=20", "-rss_limit_mb=3000"],
        lambda content: check(reader, folder, content),
        custom_mutator=mutate,
    )
    try:
        atheris.Fuzz()
    finally:
        remove(folder)
        remove(corpus)


if __name__ == "__main__":
    main()
