"""Features of frozen encoders, computed once and kept on disk for every later run.

    FOLDER / fingerprint of encoders and processor / *.arrow

A row is found by its text and its picture's bytes, so rows that tables, splits and tasks share are
computed once, and only new or changed rows are computed later. Numbers are kept in float32, so that
cached and raw logits agree: about 0.25 MB a row for MobileNetV2's 49 x 1280 regions, 0.15 MB for the
49 x 768 of CLIP ViT-B/32, and 3 kB a token for BERT.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from filelock import FileLock, Timeout
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm
from transformers.utils import logging

from mmorient.features.batches import raw_inputs
from mmorient.features.encoding import encoded
from mmorient.features.fingerprints import encoder_fingerprint, row_keys
from mmorient.features.shards import Shard, find_rows, remove_damaged, told_to_the_user, write_shard
from mmorient.tables.records import Record
from modeling_mmorient import MMOrientForMultitaskClassification, MMOrientProcessor

logger = logging.get_logger(__name__)

# About as many rows a file has. An interrupted run loses at most this many, and the file being written.
SHARD_ROWS = 256


class FeatureRows(Dataset[Record]):
    """Records with their features, read from the cache's files as they are asked for.

    Args:
        stored: By record: the file and the row in it.
        records: The records.
    """

    def __init__(self, stored: Sequence[tuple[Path, int]], records: Sequence[Record]) -> None:
        self.stored, self.records = stored, records
        self._shards: dict[Path, Shard] = {}

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, row: int) -> Record:
        path, index = self.stored[row]
        with told_to_the_user():
            if path not in self._shards:
                self._shards[path] = Shard(path)
            return replace(self.records[row], features=self._shards[path].row(index))

    def __getstate__(self) -> dict[str, Any]:
        """State for a data loader's processes, without open files: each process maps them itself."""
        return {**self.__dict__, "_shards": {}}


def cached_features(
    tables: Mapping[str, Sequence[Record]],
    model: MMOrientForMultitaskClassification,
    processor: MMOrientProcessor,
    folder: str | Path,
    batch_size: int,
    device: torch.device,
    workers: int = 0,
) -> dict[str, FeatureRows]:
    """The features of every row, from the cache; missing ones are computed by the encoders and added to it.

    With several processes, each computes a share, and all of them read all rows.

    Args:
        tables: By name (for errors): records.
        model: Its encoders are frozen: their features do not change in training.
        processor: The model's.
        folder: Of the cache, where all processes can read and write.
        batch_size: Rows at a time.
        device: Where the encoders run.
        workers: Processes that prepare pictures and texts; 0: this one does.

    Raises:
        ValueError: If a row's picture or text cannot be read, naming the row; if another process's rows
            are not in `folder`.
    """
    state = PartialState()
    store = Path(folder).expanduser() / encoder_fingerprint(model, processor)
    keys = {name: row_keys(table, name) for name, table in tables.items()}
    sources = {key: (name, row) for name in tables for row, key in enumerate(keys[name])}
    with _alone(store, state, sources):
        known = find_rows(store, sources)
        state.wait_for_everyone()  # no process may add rows before all have looked
        missing = _by_length({key: source for key, source in sources.items() if key not in known}, tables)
        shards = _cut(missing, batch_size * max(1, SHARD_ROWS // batch_size))
        shards = shards[state.process_index :: state.num_processes]
        indices = [[sources[key] for key in shard] for shard in shards]
        threads = torch.get_num_threads() if device.type == "cpu" else 1  # each encodes a batch
        batches = _prepared(tables, indices, processor, max(1, batch_size // threads), workers)
        with tqdm(
            desc="features",
            unit="row",
            total=len(known) + sum(map(len, shards)),
            initial=len(known),
            disable=not state.is_local_main_process,
        ) as bar:
            _extract(model.to(device).eval(), batches, shards, store, bar)
        state.wait_for_everyone()
    known = find_rows(store, sources)
    if lost := len(sources) - len(known):
        raise ValueError(
            f"{store} lacks {lost} rows that other processes were to compute: set `feature_cache` to a "
            "folder that all processes share."
        )
    return {
        # The records may be sent to a data loader's processes, which need only the labels.
        name: FeatureRows(
            [known[key] for key in keys[name]],
            [replace(record, picture=None, fingerprint=None) for record in table],
        )
        for name, table in tables.items()
    }


@contextmanager
def _alone(store: Path, state: PartialState, wanted: Container[bytes]) -> Iterator[None]:
    """Let one run at a time fill a cache, so that no row is computed twice; damaged files are removed first.

    The lock is the operating system's, which releases it when a run dies.
    """
    if not state.is_main_process:
        state.wait_for_everyone()
        yield
        return
    store.mkdir(parents=True, exist_ok=True)
    lock = FileLock(store / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.warning(f"waiting for another run that fills {store}.")
        lock.acquire()
    try:
        remove_damaged(store, wanted)
        state.wait_for_everyone()
        yield
    finally:
        lock.release()


def _by_length(
    sources: Mapping[bytes, tuple[str, int]], tables: Mapping[str, Sequence[Record]]
) -> list[bytes]:
    """Keys of rows, long texts first: batches pad little, and a lack of memory shows at once."""

    def order(key: bytes) -> tuple[int, bytes]:
        name, row = sources[key]
        return -len(tables[name][row].text or ""), key

    return sorted(sources, key=order)


def _cut(items: Sequence[Any], size: int) -> list[Any]:
    return [items[start : start + size] for start in range(0, len(items), size)]


class _PlacedRows(Dataset[Record]):
    """Rows of several tables, each by the table's name and its index there."""

    def __init__(self, tables: Mapping[str, Sequence[Record]]) -> None:
        self.tables = tables

    def __getitem__(self, index: tuple[str, int]) -> Record:
        name, row = index
        record = self.tables[name][row]
        return replace(record, row=f"{record.row} of the {name} rows")


def _prepared(
    tables: Mapping[str, Sequence[Record]],
    shards: Sequence[Sequence[tuple[str, int]]],
    processor: MMOrientProcessor,
    batch_size: int,
    workers: int,
) -> Iterator[dict[str, torch.Tensor]]:
    """Inputs of the encoders for the rows of each file, file by file."""
    loader = DataLoader(
        _PlacedRows(tables),
        batch_sampler=[batch for shard in shards for batch in _cut(shard, batch_size)],
        collate_fn=partial(raw_inputs, processor),
        num_workers=workers,
        # A separate generator: random numbers drawn later must not depend on whether features were cached.
        generator=torch.Generator(),
    )
    return iter(loader)


def _extract(
    model: MMOrientForMultitaskClassification,
    batches: Iterator[dict[str, torch.Tensor]],
    shards: Sequence[Sequence[bytes]],
    store: Path,
    bar: tqdm,
) -> None:
    """Compute and write one file after another; each is written while the next is computed."""
    features = encoded(model, batches)
    with closing(features), ThreadPoolExecutor(1) as thread:
        written: Future[None] | None = None
        for keys in shards:
            computed: list[dict[str, torch.Tensor]] = []
            rows = 0
            while rows < len(keys):
                computed.append(next(features))
                rows += len(computed[-1]["image_present"])
                bar.update(len(computed[-1]["image_present"]))
            if model.device.type == "cpu":
                write_shard(store, keys, computed)  # the encoders' threads keep working meanwhile
                continue
            if written is not None:
                written.result()
            written = thread.submit(write_shard, store, keys, computed)
        if written is not None:
            written.result()
