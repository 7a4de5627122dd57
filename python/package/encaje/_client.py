"""A cluster: jobs that other machines work on."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Union

from encaje import _errors, _program
from encaje._progress import Bars
from encaje._vectors import Vectors

Path = Union[str, "os.PathLike[str]"]


class Client:
    """A client of coordinators.

    Parameters
    ----------
    coordinator : str, or several
        URLs such as ``https://host:7600``; one that does not answer is passed over.
    token : str, optional
        Shows this token. By default the one in ``ENCAJE_TOKEN``.
    tls_ca, tls_cert, tls_key : path, optional
        PEM files: whom to believe, and whom to be.
    insecure : bool
        Sends a token over a connection that others can read.

    Examples
    --------
    >>> client = encaje.Client("https://host:7600", token=TOKEN)                    # doctest: +SKIP
    >>> job = client.submit("s3://bucket/tweets/*.parquet", model="owner/name")     # doctest: +SKIP
    >>> vectors = client.download(job, "tweets/", wait=True)                        # doctest: +SKIP
    """

    def __init__(
        self,
        coordinator: str | Iterable[str],
        *,
        token: str | None = None,
        tls_ca: Path | None = None,
        tls_cert: Path | None = None,
        tls_key: Path | None = None,
        insecure: bool = False,
    ) -> None:
        self._coordinators = [coordinator] if isinstance(coordinator, str) else list(coordinator)
        self._words = _program.options(
            coordinator=self._coordinators, tls_ca=tls_ca, tls_cert=tls_cert, tls_key=tls_key, insecure=insecure
        )
        # Not an option: those can be seen by all processes of the machine.
        self._environment = {} if token is None else {"ENCAJE_TOKEN": token}

    def __repr__(self) -> str:
        return f"<encaje.Client of {', '.join(self._coordinators)}>"

    def submit(self, corpus: Path | Iterable[Path], *, model: Path, **options: Any) -> str:
        """Submit a job; the same call again is the same job.

        Parameters
        ----------
        corpus : path, URL, or several
            Files of this machine are uploaded where the coordinator cannot read them.
        options
            Those of ``encaje submit``, with underscores: ``text_column="tweet"``. ``normalize=False`` is ``--no-normalize``.

        Returns
        -------
        str
            The id of the job.
        """
        normalize = options.pop("normalize", None)
        flags, environment = _program.switches(no_normalize=None if normalize is None else not normalize)
        settings = _program.options(model=model, **options)
        status = self._call("submit", *settings, *flags, targets=_program.paths(corpus), environment=environment)
        return str(status["job"])

    def status(self, job: str) -> dict[str, Any]:
        """Return the status of a job: ``state``, ``rows``, ``rows_done``, ``rejected``, ``shards``, ``workers``, ..."""
        return dict(self._call("status", targets=_job(job)))

    def jobs(self) -> list[dict[str, Any]]:
        """Return the status of all jobs, the newest first."""
        return list(self._call("list", "--all"))

    def wait(self, job: str, *, progress: bool | None = None) -> dict[str, Any]:
        """Wait until a job has ended, with a bar.

        Returns
        -------
        dict
            Its status.

        Raises
        ------
        Error
            It failed, or was cancelled.
        """

        def show(status: Any, bars: Bars) -> None:
            done = status["rows_done"] + status["rows_in_flight"]
            bars.update("embedding", done, status["rows"], " rows", workers=status["workers"])

        status = dict(self._call("status", "--watch", targets=_job(job), progress=progress, notes=True, on_value=show))
        if status["state"] != "succeeded":
            raise _errors.Error(f"job {job} has {status['state']}: {status['reason'] or 'no reason was given'}")
        return status

    def download(self, job: str, out: Path, *, wait: bool = False, progress: bool | None = None) -> Vectors:
        """Fetch the result of a job into a folder, or a file that ends in ``.parquet``; the same call again resumes.

        Returns
        -------
        Vectors
        """
        self._call("download", *_program.options(out=out, wait=wait), targets=_job(job), progress=progress, notes=True)
        return Vectors(out)

    def cancel(self, job: str) -> dict[str, Any]:
        """End a job without a result."""
        return dict(self._call("cancel", targets=_job(job)))

    def pause(self, job: str) -> dict[str, Any]:
        """Stop leasing the shards of a job."""
        return dict(self._call("pause", targets=_job(job)))

    def resume(self, job: str) -> dict[str, Any]:
        """Lease the shards of a paused job again."""
        return dict(self._call("resume", targets=_job(job)))

    def retry(self, job: str) -> dict[str, Any]:
        """Try the failed shards of a job again."""
        return dict(self._call("retry", targets=_job(job)))

    def _call(self, command: str, *words: str, environment: Mapping[str, str] | None = None, **how: Any) -> Any:
        variables = {**self._environment, **(environment or {})}
        value, _ = _program.call(command, *self._words, *words, environment=variables, **how)
        return value


def _job(job: str) -> list[str]:
    """Check that this is the id of a job: the command would take anything else for a folder."""
    try:
        return [str(uuid.UUID(job))]
    except (ValueError, AttributeError, TypeError):
        raise _errors.UsageError(f"`{job}` is no id of a job", ["submit returns it, and jobs lists them"]) from None
