"""A folder as one commit of a repository on the Hub."""

from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoCard
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalTokenNotFoundError
from huggingface_hub.hf_api import RepoFile

from mmorient.publishing.manifest import MANIFEST, Published, read_manifest, repository_files

# What the Hub itself puts into a new repository.
HUB_FILES = (".gitattributes",)
CHANGED_MEANWHILE, REFUSED = 412, (401, 403)


def upload(
    folder: Path, repo_id: str, *, private: bool, replace: bool, message: str, repo_type: str = "model"
) -> str:
    """Make a repository hold a folder's files, in one commit; its address.

    Files that the last publication put there and this one has not are deleted. All others stay.

    Args:
        folder: The files, with their manifest.
        repo_id: OWNER/NAME; made if it is not there.
        private: Whether a new repository is private.
        replace: Also replace files that somebody else changed or put there.
        message: Of the commit.
        repo_type: `model`, or `space`, which is a Gradio one.

    Raises:
        ValueError: If the Hub refuses, cannot be reached, or was changed meanwhile; or files of others would
            be lost, naming them. The repository stays as it was.
    """
    api = HfApi()
    try:
        RepoCard.load(folder / "README.md").validate(repo_type)
        sdk = "gradio" if repo_type == "space" else None
        api.create_repo(repo_id, private=private, exist_ok=True, repo_type=repo_type, space_sdk=sdk)
        head = str(api.repo_info(repo_id, repo_type=repo_type).sha)
        there = _files(api, repo_id, repo_type, head)
        ours = _last_publication(api, repo_id, repo_type, head)
        new = [*repository_files(folder), MANIFEST]
        if not replace:
            _check_ownership(repo_id, there, ours, new)
        added = [CommitOperationAdd(name, folder / name) for name in new]
        gone = [CommitOperationDelete(name) for name in sorted(ours.keys() & there.keys() - set(new))]
        commit = api.create_commit(
            repo_id, [*added, *gone], commit_message=message, parent_commit=head, repo_type=repo_type
        )
    except LocalTokenNotFoundError as error:
        raise ValueError(f"{repo_id} was not published: {error} Run `hf auth login`.") from error
    except HfHubHTTPError as error:
        raise ValueError(f"{repo_id} was not published, and is as it was: {_reason(error)}") from error
    except ValueError:
        raise
    except Exception as error:  # of whichever HTTP library the Hub's client uses
        raise ValueError(
            f"{repo_id} was not published, and is as it was: {error} Try again, or look at the "
            "files first, with --dry_run."
        ) from error
    return f"{commit.repo_url} at {commit.oid}"


def _files(api: HfApi, repo_id: str, repo_type: str, revision: str) -> dict[str, RepoFile]:
    tree = api.list_repo_tree(repo_id, recursive=True, revision=revision, repo_type=repo_type)
    return {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}


def _last_publication(api: HfApi, repo_id: str, repo_type: str, revision: str) -> dict[str, Published]:
    try:
        path = api.hf_hub_download(repo_id, MANIFEST, revision=revision, repo_type=repo_type)
    except EntryNotFoundError:
        return {}
    return read_manifest(Path(path), repo_id)


def _check_ownership(
    repo_id: str, there: Mapping[str, RepoFile], ours: Mapping[str, Published], new: list[str]
) -> None:
    """Raise where a file that would be replaced or deleted is not what the last publication put there."""
    touched = ({*new, *ours} & there.keys()) - {MANIFEST, *HUB_FILES}
    foreign = sorted(name for name in touched if name not in ours or not _is(there[name], ours[name]))
    if foreign:
        raise ValueError(
            f"{repo_id} has files that the last publication did not put there, and that this one would lose: "
            f"{foreign}. Rename them there, or publish with --replace."
        )


def _is(file: RepoFile, published: Published) -> bool:
    return (file.lfs.sha256 == published.sha256) if file.lfs else (file.blob_id == published.blob)


def _reason(error: HfHubHTTPError) -> str:
    status = error.response.status_code if error.response is not None else None
    said = str(error).splitlines()[0]
    if status == CHANGED_MEANWHILE:
        return f"somebody else changed it meanwhile ({said}). Look at what changed, and publish again."
    if status in REFUSED:
        return f"the Hub refuses ({said}). `hf auth login` with a token that may write there."
    return f"the Hub answered {said}. Try again."
