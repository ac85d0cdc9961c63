"""The setting that result files support for training, for programs: ``from bench import best``."""

from bench.cli import common
from bench.compare import cells
from bench.verdicts import loading, use


def best(*files: str) -> dict[str, object] | None:
    """Return the setting that result files support for training, None if they support none.

    `files` are result CSVs, folders or patterns; the default are this machine's runs in the folder
    ``results``, with the torch and the threads of the last one. Given files must be of one machine,
    torch and number of threads, or ValueError is raised. The keys are `device`,
    `dtype`, `autocast`, `batch`, `samples_per_s`, and of a DataLoader `workers` and `loader_batch`
    (None if unknown). This does not import torch.
    """
    settings = cells.settings(common.rows(files))
    if files and len(settings) > 1:
        raise ValueError(f"{len(settings)} machines or settings: name the files of one of them")
    found = cells.of(settings[0].rows)
    chosen = next(use.settings(found), None)
    if chosen is None or chosen.advice == "unknown":
        return None
    loader = next((one.subject.params for one in loading.loading(found)), {})
    return {
        "device": chosen.subject.device,
        "dtype": chosen.subject.dtype,
        "autocast": chosen.autocast,
        "batch": int(chosen.subject.params["batch"]),
        "samples_per_s": chosen.amount,
        "workers": int(loader["workers"]) if loader else None,
        "loader_batch": int(loader["batch"]) if loader else None,
    }
