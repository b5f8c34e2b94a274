"""The pipeline of MM-ORIENT: `pipeline(model=..., trust_remote_code=True)`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset
from transformers import Pipeline

from .answers import Answer, name_answers
from .explanation import explain as explain_rows
from .image_sources import SourceLimits
from .request_fields import RequestLimits, read_parameters, read_references, read_request, read_row
from .row_passes import logits_of_rows, prepare_row


@dataclass(frozen=True)
class PreparedRow:
    """One row that is ready for the model.

    Args:
        where: What it is called, for errors.
        inputs: Of the model, (1, ...) each.
        image, text: What an explanation is about; both None where none is asked for.
        explain: Whether one is.
    """

    where: str
    inputs: dict[str, torch.Tensor]
    image: Any
    text: str | None
    explain: bool


@dataclass(frozen=True)
class ReadRequest:
    """A request whose rows are ready for the model.

    Args:
        rows: In the request's order.
        options: Of `postprocess`.
        single: Whether `inputs` was one row and no list.
    """

    rows: list[PreparedRow]
    options: dict[str, Any]
    single: bool


class MMOrientPipeline(Pipeline):
    """Answers in words about memes: a picture, a text, or both.

    Takes a row, a list of rows, a generator or a dataset of them (`KeyDataset`). A row is
    `{"image": ..., "text": ...}`, either of which may be missing, or an image alone; an image is a PIL image,
    an array, the path of a file, the bytes of one, base64 (also as a `data:` address), or an `https://`
    address of a public host.

    Args (of the pipeline or of a call):
        top_k: Number of scores to show for each task, the highest first. Default: all.
        tasks: Names of the tasks to answer. Default: all of the model's.
        function_to_apply: What scores are: `"softmax"` or `"sigmoid"` of the logits, or with `"none"` the
            logits. Default: the model's own probabilities, which are calibrated. Decisions do not change.
        explain: Add an explanation, see `explanation.Explanation`. Default: False.
        batch_size: Rows that are prepared together. Any number gives the same answers, bit for bit.

    Returns:
        For each row a dict that JSON can hold:

            {"answers": {task: {"labels": [...], "scores": [{"label": ..., "score": ...}, ...],
                                "thresholds": {...}, "value": None, "interval": None}}}

        `labels` is what is decided: one label, those of a `multilabel` task that hold, or the value of a
        `regression` task in digits. `thresholds`, `value` and `interval` are those of `answers.Answer`; a
        `regression` task has no `scores`. With `explain` there is `"explanation"` beside `"answers"`.

    Raises:
        ValueError: If a row or an option does not fit, naming the row, the field, the value and the remedy.

    Example:

    ```python
    >>> answer = pipeline(model=repo, trust_remote_code=True)
    >>> answer({"image": "meme.png", "text": "what a lovely day"})["answers"]["sentiment"]["labels"]
    ['positive']
    ```
    """

    _load_processor = True
    _load_image_processor = _load_video_processor = _load_feature_extractor = _load_tokenizer = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.processor is None:
            raise ValueError("`processor` is None: give the model's MMOrientProcessor.")
        self.model.eval()

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Save the model with its processor, as `from_pretrained` and `pipeline` take them."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)

    def _sanitize_parameters(self, **parameters: Any) -> tuple[dict[str, Any], ...]:
        chosen = read_parameters(self.model.config.task_specs, parameters)
        before = {"explain": chosen.pop("explain")} if "explain" in chosen else {}
        return before, {}, chosen

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        # A column of `datasets`, for one, is a sequence but no list.
        if isinstance(inputs, Sequence) and not isinstance(inputs, str | bytes | bytearray | list):
            inputs = list(inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        return super().__call__(inputs, **kwargs)

    def get_iterator(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Iterator[dict[str, Any]]:
        """Answers in the order of rows; in place of transformers' own, which pads tensors of one modality."""

        def prepare(number: int, row: Any) -> PreparedRow:
            return self.preprocess(row, f"row {number}", **preprocess_params)

        rows = _Rows(inputs, prepare) if isinstance(inputs, Sized) else _RowStream(inputs, prepare)
        for batch in DataLoader(rows, batch_size, num_workers=num_workers, collate_fn=list):
            for output in self.forward({"rows": batch}, **forward_params)["rows"]:
                yield self.postprocess(output, **postprocess_params)

    def run_single(
        self,
        inputs: Any,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> dict[str, Any]:
        """The answer to one row."""
        row = self.preprocess(inputs, **preprocess_params)
        (output,) = self.forward({"rows": [row]}, **forward_params)["rows"]
        return self.postprocess(output, **postprocess_params)

    def preprocess(
        self,
        row: Any,
        where: str = "the row",
        explain: bool = False,
        limits: SourceLimits | None = None,
        paths: bool = True,
    ) -> PreparedRow:
        """One row to the model's inputs; arguments as of `read_row`."""
        image, text = read_row(where, row, limits or SourceLimits(), paths)
        try:
            inputs = prepare_row(self.processor, image, text, self.device)
        except ValueError as error:
            raise ValueError(f"{where}: {str(error).removeprefix('row 0: ')}") from None
        if not explain:  # then nothing reads them again
            image = text = None
        return PreparedRow(where, inputs, image, text, explain)

    def _forward(self, batch: dict[str, list[PreparedRow]]) -> dict[str, list[dict[str, Any]]]:
        rows = batch["rows"]
        on_device = [{name: values.to(self.device) for name, values in row.inputs.items()} for row in rows]
        outputs = []
        for row, logits in zip(rows, logits_of_rows(self.model, on_device), strict=True):
            outputs.append({"where": row.where, "logits": logits, "explanation": None})
            if row.explain:
                found = explain_rows(self.model, self.processor, [row.image], [row.text])
                outputs[-1]["explanation"] = asdict(found[0])
        return {"rows": outputs}

    def postprocess(
        self,
        output: dict[str, Any],
        top_k: int | None = None,
        tasks: Sequence[str] | None = None,
        function_to_apply: str | None = None,
    ) -> dict[str, Any]:
        """A row's logits to its answers."""
        specs, logits = self.model.config.task_specs, output["logits"]
        likely = self.model.probabilities(logits)
        try:
            (answers,) = name_answers(specs, likely, self.model.decisions(likely))
        except ValueError as error:
            raise ValueError(f"{output['where']}: {str(error).removeprefix('row 0: ')}") from None
        shown = {}
        for task in tasks or specs:
            scores = answers[task].probabilities
            if function_to_apply is not None and scores:
                applied = _applied(function_to_apply, logits[task][0].float())
                scores = dict(zip(scores, applied.tolist(), strict=True))
            shown[task] = _shown(answers[task], scores, top_k)
        found: dict[str, Any] = {"answers": shown}
        if output["explanation"] is not None:
            kept = {task: output["explanation"]["tasks"][task] for task in shown}
            found["explanation"] = {**output["explanation"], "tasks": kept}
        return found

    def read_request(self, data: Any, limits: RequestLimits | None = None) -> ReadRequest:
        """Read a stranger's request `{"inputs": ..., "parameters": ...}`, up to the inputs of the model.

        Args:
            data: `inputs` is a row or a list of rows, without paths of this machine; `parameters` are
                `top_k`, `tasks`, `function_to_apply` and `explain`.
            limits: Default: those of `RequestLimits`.

        Raises:
            ValueError: Naming the field, the value and the remedy.
        """
        limits = limits or RequestLimits()
        rows, parameters = read_request(data, limits)
        checked = read_parameters(self.model.config.task_specs, parameters)
        before, _, options = self._sanitize_parameters(**checked)
        single = not isinstance(data["inputs"], list)
        prepared = [
            self.preprocess(
                row, "inputs" if single else f"inputs[{number}]", **before, limits=limits.source, paths=False
            )
            for number, row in enumerate(rows)
        ]
        return ReadRequest(prepared, options, single)

    def answer_request(self, request: ReadRequest) -> Any:
        """The answer to a request: one answer for a single row, a list of answers for a list of rows."""
        return self.finish_request(request, self.forward({"rows": request.rows})["rows"])

    def finish_request(self, request: ReadRequest, outputs: Sequence[dict[str, Any]]) -> Any:
        """The same from what `forward` gave for the request's rows, alone or among others."""
        answers = [self.postprocess(output, **request.options) for output in outputs]
        return answers[0] if request.single else answers

    def read_references(
        self, data: Any, limits: RequestLimits | None = None
    ) -> tuple[dict[str, torch.Tensor], list[str], dict[str, torch.Tensor], bool]:
        """Read a request to add references: the arguments of `add_references`, and whether to replace.

        Args:
            data: As `request_fields.read_references` takes it, without paths of this machine.
            limits: Default: those of `RequestLimits`.

        Raises:
            ValueError: Naming the field, the value and the remedy.
        """
        limits = limits or RequestLimits()
        rows, ids, labels, replace = read_references(self.model.config.task_specs, data, limits)
        read = [
            read_row(f"references[{number}]", row, limits.source, paths=False)
            for number, row in enumerate(rows)
        ]
        given = {"images": [image for image, _ in read], "text": [text for _, text in read]}
        given = {name: values for name, values in given.items() if any(one is not None for one in values)}
        inputs = self.processor(**given, return_tensors="pt")
        return {name: values.to(self.device) for name, values in inputs.items()}, ids, labels, replace


def _applied(function: str, logits: torch.Tensor) -> torch.Tensor:
    if function == "none":
        return logits
    return logits.softmax(-1) if function == "softmax" else logits.sigmoid()


def _shown(answer: Answer, scores: dict[str, float], top_k: int | None) -> dict[str, Any]:
    """An answer for JSON, with scores as a list: a dict could lose their order in transit."""
    ranked = sorted(scores.items(), key=lambda item: -item[1])[:top_k]
    return {
        "labels": answer.labels,
        "scores": [{"label": label, "score": score} for label, score in ranked],
        "thresholds": answer.thresholds,
        "value": answer.value,
        "interval": None if answer.interval is None else list(answer.interval),
    }


class _Rows(Dataset):
    """Rows that are prepared when they are asked for."""

    def __init__(self, rows: Any, prepare: Any) -> None:
        self.rows, self.prepare = rows, prepare

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> PreparedRow:
        return self.prepare(number, self.rows[number])


class _RowStream(IterableDataset):
    """Rows of a stream, which has no length."""

    def __init__(self, rows: Iterable[Any], prepare: Any) -> None:
        self.rows, self.prepare = rows, prepare

    def __iter__(self) -> Iterator[PreparedRow]:
        for number, row in enumerate(self.rows):
            yield self.prepare(number, row)
