"""Upload of an export to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from tokensieve.errors import TokensieveError, first_line
from tokensieve.store.mirror import fetched


def check_push(repo: str) -> None:
    """Check that a push is possible, before anything is written.

    Raises:
        TokensieveError: the repository name is invalid, no user is logged in, or the Hub does not answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise TokensieveError(
            f"'{repo}' is not a valid repository name", where="--push-to-hub", hint="use a name such as you/your-data"
        ) from error
    try:
        HfApi().whoami()
    except LocalTokenNotFoundError as error:
        raise TokensieveError(
            "not logged in to the Hugging Face Hub", where="--push-to-hub", hint="run `hf auth login`"
        ) from error
    except _failures() as error:
        raise _refused(repo, error) from error


def push(folder: Path, repo: str) -> str:
    """Upload an export with its card; a new repository is created as private.

    Args:
        folder: folder of the export.
        repo: name of the data set on the Hub.

    Returns:
        The address of the data set.

    Raises:
        TokensieveError: the Hub refuses the upload, or does not answer.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = api.create_repo(repo, repo_type="dataset", private=True, exist_ok=True)
        api.upload_folder(
            repo_id=address.repo_id,
            repo_type="dataset",
            folder_path=fetched(folder),
            commit_message="Upload with tokensieve",
        )
    except _failures() as error:
        raise _refused(repo, error) from error
    return str(address)


def _failures() -> tuple[type[BaseException], ...]:
    """Return the exceptions of the Hub client; its errors inherit from those of its HTTP library."""
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *HfHubHTTPError.__bases__)


def _refused(repo: str, error: BaseException) -> TokensieveError:
    return TokensieveError(
        f"the Hub request failed: {first_line(error)}",
        where=f"--push-to-hub {repo}",
        hint="log in with `hf auth login` as a user with write access, then run the same command again",
    )
