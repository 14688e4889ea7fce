"""An export on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from tokensieve.errors import TokensieveError


def check_push(repo: str) -> None:
    """Check, before anything is written, that a push can begin.

    Raises:
        TokensieveError: a name that no repository can have, nobody logged in, or a Hub that does not answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise TokensieveError(
            f"'{repo}' is no name of a repository", where="--push-to-hub", hint="such as you/your-data"
        ) from error
    try:
        HfApi().whoami()
    except LocalTokenNotFoundError as error:
        raise TokensieveError("not logged in", where="--push-to-hub", hint="hf auth login") from error
    except _failures() as error:
        raise _refused(repo, error) from error


def push(folder: Path, repo: str) -> str:
    """Upload an export with its card; a repository that does not exist is made, private.

    Args:
        folder: of the export.
        repo: name of the data set on the Hub.

    Returns:
        Its address.

    Raises:
        TokensieveError: the Hub refuses, or does not answer.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = api.create_repo(repo, repo_type="dataset", private=True, exist_ok=True)
        api.upload_folder(
            repo_id=address.repo_id, repo_type="dataset", folder_path=folder, commit_message="Upload with tokensieve"
        )
    except _failures() as error:
        raise _refused(repo, error) from error
    return str(address)


def _failures() -> tuple[type[BaseException], ...]:
    """Return what the Hub's client raises: its errors have those of its HTTP library among their bases."""
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *HfHubHTTPError.__bases__)


def _refused(repo: str, error: BaseException) -> TokensieveError:
    return TokensieveError(
        f"the Hub refuses: {str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}",
        where=f"--push-to-hub {repo}",
        hint="log in with `hf auth login` as someone who may write there, then run the same command again",
    )
