"""How the MM-ORIENT models are saved, loaded and pushed: weights, configuration and references as one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import CommitOperationDelete, HfApi
from transformers import PreTrainedConfig
from transformers.dynamic_module_utils import custom_object_save
from transformers.utils import CONFIG_NAME, cached_file, logging

from .head_transfer import change_tasks
from .reference_bank import ReferenceBank
from .reference_files import REFERENCES_NAME, is_tensors_file, tensors_name
from .saved_folder import read_whole, save_whole
from .saved_weights import (
    check_kinds,
    check_same_weights,
    check_sizes,
    read_config,
    replaced_files,
    weight_files,
    write_config,
    write_weights,
)
from .task_changes import carried_over, head_identity
from .task_specs import parse_tasks

logger = logging.get_logger(__name__)

# What `from_pretrained` is told about where a repository's files are.
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder", "proxies")
# Of `save_pretrained`, what `push_to_hub` takes instead, and what it takes as well.
REPOSITORY = ("repo_id", "commit_message", "commit_description")
PUSH_OPTIONS = ("private", "token", "create_pr", "revision", "max_shard_size", "tags")


class SavedModel:
    """Part of the MM-ORIENT models: a folder or repository holds one state of a model, references included.

    `config.json` names the references that belong to it, and the weights those that HIMA's g was computed
    over: other files than those are refused.
    """

    def save_pretrained(
        self,
        save_directory: Any,
        is_main_process: bool = True,
        state_dict: Mapping[str, torch.Tensor] | None = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """As `PreTrainedModel.save_pretrained`; also saves the references, even if there are none.

        Whatever happens meanwhile, the folder holds either its old contents or everything that is saved; if
        several processes save to it, they do so one after the other.

        Raises:
            ValueError: If it is to be pushed with an argument that `push_to_hub` does not take, the
                references are split over processes, or `save_directory` is a file.
        """
        repository = {name: kwargs.pop(name) for name in REPOSITORY if name in kwargs}
        hub = {name: kwargs[name] for name in PUSH_OPTIONS if name in kwargs}
        refused = ["state_dict"] * (state_dict is not None) + sorted(set(kwargs) - set(hub))
        if push_to_hub and refused:
            raise ValueError(
                f"{refused} cannot be given where the model is pushed: save without `push_to_hub`, and "
                "upload the folder."
            )
        if kwargs.get("distributed_checkpoint"):
            raise ValueError(
                "`distributed_checkpoint` is True: each process would write weights without the references "
                "that belong to them. Leave it out."
            )
        write = partial(super().save_pretrained, **kwargs)  # type: ignore[misc]
        chosen = getattr(self, "should_save_on_this_rank", bool)
        if chosen(is_main_process):
            folder = Path(save_directory)
            save_whole(
                folder,
                lambda staging: self._write(staging, state_dict, write),
                replaced_files(kwargs.get("variant")),
            )
        else:  # this process may have to give its part of the weights
            write(save_directory, is_main_process=False, state_dict=state_dict)
        if push_to_hub:  # as one commit with the references
            name = repository.pop("repo_id", Path(save_directory).name)
            self.push_to_hub(name, **repository, **hub)

    def _write(
        self,
        staging: Path,
        state_dict: Mapping[str, torch.Tensor] | None,
        write: Callable[..., None],
    ) -> None:
        model: Any = self
        references, g = model.settled_references()
        digest = references.write(staging)
        model.config.saved_references = {"number": len(references), "digest": digest}
        state = dict(model.state_dict() if state_dict is None else state_dict)
        # Of the same moment as the references, whatever is edited meanwhile.
        for name, values in model.reference_weights(g, digest).items():
            if name in state:
                state[name] = values.to(state[name])
        write(staging, state_dict=state)
        if model._auto_class is not None:  # then the model's code is saved too
            # Only now, because the pipeline's module imports the models'.
            from .pipeline_mmorient import MMOrientPipeline

            custom_object_save(MMOrientPipeline, staging)

    def save_references(self, folder: str | Path) -> None:
        """Save the references, and HIMA's g, which depends on them, into a folder that holds this model.

        The other weights in the folder stay as they are. As with `save_pretrained`, the folder holds either
        its old contents or everything that is saved.

        Args:
            folder: The folder to which `save_pretrained` saved this model.

        Raises:
            ValueError: If there is no model, or one with another configuration or other HIMA weights.
        """
        model: Any = self
        folder = Path(folder)

        def write(staging: Path) -> None:
            saved = read_config(folder, model.config)
            references, g = model.settled_references()
            digest = references.write(staging)
            hima = {name: values for name, values in model.state_dict().items() if "hima." in name}
            changed = model.reference_weights(g, digest)
            check_same_weights(folder, {name: hima[name] for name in hima if name not in changed})
            write_weights(folder, staging, changed)
            model.config.saved_references = {"number": len(references), "digest": digest}
            write_config(staging, {**saved, "saved_references": model.config.saved_references})

        read_config(folder, model.config)  # an error is raised before a folder is made
        save_whole(folder, write, is_tensors_file)

    def push_to_hub(self, repo_id: str, **options: Any) -> Any:
        """As `PreTrainedModel.push_to_hub`, with the references; those that it had before are deleted."""
        # The model's references, even if there are none, replace the others in the same commit.
        pushed = super().push_to_hub(repo_id, **options)  # type: ignore[misc]
        api, token = HfApi(), options.get("token")
        name, revision = pushed.repo_url.repo_id, pushed.pr_revision or options.get("revision")
        metadata = api.hf_hub_download(name, REFERENCES_NAME, revision=pushed.oid, token=token)
        used = tensors_name(Path(metadata).parent)
        stale = [
            CommitOperationDelete(path)
            for path in api.list_repo_files(name, revision=revision, token=token)
            if is_tensors_file(path) and path != used
        ]
        if stale:
            message = "Delete references that are no longer used"
            api.create_commit(name, stale, commit_message=message, revision=revision, token=token)
        return pushed

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As `PreTrainedModel.from_pretrained`, from safetensors only, with the references that were saved.

        With other `tasks` than the saved ones (or a `config` that has others), heads and votes go by the
        tasks' names and labels: see `change_tasks`. Frozen encoders come back frozen.

        Args:
            references: False: without the references; HIMA's g stays the one over them. Defaults to True.

        Raises:
            OSError: If there is no configuration or there are no weights.
            ValueError: If weights are cut short, or of other sizes than the configuration says (with
                `ignore_mismatched_sizes=True` these are made anew); if references are missing, altered, or
                not those that the weights and the configuration were saved with.
        """
        if kwargs.setdefault("use_safetensors", True) is not True:
            raise ValueError(
                f"`use_safetensors` is {kwargs['use_safetensors']!r}: MM-ORIENT checkpoints are read "
                "from safetensors only. Leave the argument out."
            )
        if not isinstance(kwargs.get("references", True), bool):
            raise ValueError(f"`references` is {kwargs['references']!r}: give True or False.")
        args = args or (kwargs.pop("pretrained_model_name_or_path", None),)
        name, subfolder = args[0], kwargs.get("subfolder") or ""
        if name is None:  # weights are given, and no place to look for references
            return super().from_pretrained(*args, **kwargs)  # type: ignore[misc]
        return read_whole(Path(name) / subfolder, lambda: cls._load(args, dict(kwargs)))

    @classmethod
    def _load(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        hub = {key: kwargs[key] for key in HUB_OPTIONS if kwargs.get(key) is not None}
        references, output_info = kwargs.pop("references", True), kwargs.pop("output_loading_info", False)
        saved = cls._saved_config(args[0], hub, kwargs)
        tasks = None if saved is None else cls._asked_for(saved, kwargs)
        folder = Path(args[0]) / (kwargs.get("subfolder") or "")
        # Of the Hub's files its libraries say what is wrong.
        files = weight_files(folder, kwargs.get("variant")) if folder.is_dir() else {}
        ignored = kwargs.pop("ignore_mismatched_sizes", False)
        model, info = super().from_pretrained(  # type: ignore[misc]
            *args, **kwargs, ignore_mismatched_sizes=True, output_loading_info=True
        )
        check_sizes(args[0], () if ignored else info["mismatched_keys"])
        check_kinds(files, model)
        # Loading puts new parameters in place of those that were frozen at construction.
        model.encoders.apply_freeze()
        if saved is not None and saved.get("_commit_hash"):  # all files of one commit
            hub["revision"] = saved["_commit_hash"]
        model._load_references(str(args[0]), (saved or {}).get("saved_references"), references, hub)
        if tasks is not None:
            info["missing_keys"] = type(info["missing_keys"])(
                change_tasks(model, tasks, info["missing_keys"])
            )
        return (model, info) if output_info else model

    @classmethod
    def _saved_config(cls, name: Any, hub: dict[str, Any], kwargs: dict[str, Any]) -> dict[str, Any] | None:
        """What the folder's or repository's own `config.json` says; None without one."""
        config_class: Any = cls.config_class  # type: ignore[attr-defined]
        try:
            saved, _ = config_class.get_config_dict(name, **hub)
        except OSError:
            if kwargs.get("config") is None:
                raise
            return None
        if not saved and kwargs.get("config") is None:  # otherwise a model with all defaults would be built
            raise OSError(
                f"{name} has no {CONFIG_NAME}, or an empty one: name the folder that a model was saved to, "
                "or copy all of its files."
            )
        return saved if saved.get("model_type") == config_class.model_type else None

    @classmethod
    def _asked_for(cls, saved: dict[str, Any], kwargs: dict[str, Any]) -> Any:
        """Other tasks than the saved ones, by name; `kwargs` are changed to load the saved ones."""
        config_class: Any = cls.config_class  # type: ignore[attr-defined]
        config, given = kwargs.get("config"), kwargs.pop("tasks", None)
        old = config_class.from_dict(saved).task_specs
        if config is None:
            asked = old if given is None else parse_tasks(carried_over(old, given))
        else:
            if not isinstance(config, PreTrainedConfig):  # the name of a folder
                config = config_class.from_pretrained(config, tasks=given)
            asked = config.task_specs
        if _heads(asked) != _heads(old):
            if config is not None:
                kwargs["config"] = copy.deepcopy(config)
                kwargs["config"].tasks = {name: spec.to_options() for name, spec in old.items()}
            return asked
        if given is not None:
            kwargs["tasks"] = [spec.to_dict() for spec in asked.values()]
        return None

    def _load_references(self, name: str, saved: Any, wanted: bool, hub: dict[str, Any]) -> None:
        """Take over the references that were saved with the weights.

        Args:
            name: Folder or Hub id.
            saved: What `config.json` says of them; None: nothing, as of models that were saved before.
            wanted: False: leave them out.
            hub: Where the Hub's files are, as `cached_file` takes it.
        """
        model: Any = self
        settled = model.loaded_digest()
        if not wanted:
            return
        found = cached_file(name, REFERENCES_NAME, _raise_exceptions_for_missing_entries=False, **hub)
        if found is None:
            if saved is None:
                logger.warning(
                    f"{name} has no {REFERENCES_NAME}: the model is loaded without references. If it had "
                    "some, its answers differ; `references=False` says that this is meant."
                )
            elif saved["number"]:
                raise ValueError(
                    f"{name} has no {REFERENCES_NAME}, and its config.json says that the model has "
                    f"{saved['number']} references: put their two files back, or load it without them "
                    "(`references=False`), which changes its answers."
                )
            return
        folder = Path(found).parent
        if not Path(name).is_dir():
            cached_file(name, tensors_name(folder), **hub)
        references, digest = ReferenceBank.read(folder)
        for file, expected in (("config.json", (saved or {}).get("digest")), ("weights", settled)):
            if expected is not None and expected != digest:
                raise ValueError(
                    f"the references in {name} have the SHA-256 {digest}, and its {file} are of a model with "
                    f"others, {expected}: put the files of one model together, or load it without references "
                    "(`references=False`), which changes its answers."
                )
        model.take_references(references, settled is not None)


def _heads(tasks: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return [head_identity(spec) for spec in tasks.values()]
