"""Server errors in the form of file errors: fsspec and every library behind it have their own."""

from __future__ import annotations

import errno

from featx.errors import DataError
from featx.io.filetypes import describe_os_error
from featx.io.shown import error_line
from featx.io.urls import is_web, plain, scheme_of, server_of

_TRANSIENT = {408, 425, 429}  # statuses of HTTP below 500 that another moment may change
_PACKAGES = {
    "s3": "featx[s3]",
    "s3a": "featx[s3]",
    "gs": "featx[gs]",
    "gcs": "featx[gs]",
    "http": "fsspec[http]",
    "https": "fsspec[http]",
}
# Errors by their names, of libraries that may not be there: botocore's, aiohttp's, google-auth's.
_NO_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "TokenRetrievalError",
    "NoAuthTokenError",
    "ProfileNotFound",
    "SSOTokenLoadError",
    "UnauthorizedSSOTokenError",
    "DefaultCredentialsError",
    "RefreshError",
}
_UNREACHABLE = {"ConnectionError", "ClientConnectorError", "gaierror"}  # `ConnectionError` is botocore's base, too


def translate(error: Exception, url: str) -> OSError | DataError:
    """An error of fsspec or of a library behind it, as `OSError` where it is of one file, else as `DataError`."""
    if isinstance(error, FileNotFoundError) and is_web(url) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # fsspec takes every failure for a missing file
    text = error_line(error, 300)
    return _of_all_files(error, url, text) or _of_one_file(error, url, text)


def _of_all_files(error: Exception, url: str, text: str) -> DataError | None:
    """What is wrong with all files of a server, or of a scheme; None for an error of a single file."""
    if isinstance(error, ImportError):
        return DataError(_describe_missing(scheme_of(url), error))
    if isinstance(error, ValueError) and "Protocol not known" in text:
        return DataError(
            f"{scheme_of(url)}:// is not supported, in {plain(url)}. Give s3://, gs://, https:// or another URL that "
            "fsspec knows, or a path."
        )
    if _class_names(error) & _NO_CREDENTIALS:
        return DataError(
            f"No credentials for {server_of(url)}: {text.rstrip('.')}. Set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or what your server takes; for a public S3 bucket: FSSPEC_S3='{\"anon\": true}'"
        )
    return None


def _of_one_file(error: Exception, url: str, text: str) -> OSError:
    status = getattr(error, "status", None)  # of HTTP; such an error's text holds the whole URL
    if isinstance(error, FileNotFoundError) or status in {404, 410}:
        return FileNotFoundError(errno.ENOENT, "no such bucket" if "bucket does not exist" in text else "no such file")
    if isinstance(error, PermissionError) or status in {401, 403}:
        return PermissionError(errno.EACCES, text if status is None else f"HTTP status {status}")
    if _class_names(error) & _UNREACHABLE:
        return ConnectionError(errno.EHOSTUNREACH, f"{server_of(url)} cannot be reached ({text.rstrip('.')})")
    if isinstance(error, TimeoutError):
        return TimeoutError(errno.ETIMEDOUT, "the server did not answer in time")
    if isinstance(status, int):
        transient = status >= 500 or status in _TRANSIENT
        return OSError(errno.EBUSY if transient else errno.EINVAL, f"HTTP status {status}")
    if isinstance(error, OSError):
        return OSError(error.errno or errno.EIO, error.strerror or text)
    return OSError(errno.EIO, f"{type(error).__name__}: {text}")


def _class_names(error: Exception) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _describe_missing(scheme: str, error: ImportError) -> str:
    package = _PACKAGES.get(scheme, "fsspec" if error.name == "fsspec" else None)
    advice = f"Type: pip install '{package}'" if package else f"{' '.join(str(error).split()).rstrip('.')}."
    return f"{scheme}:// needs a package that is not installed. {advice}"


def is_transient(fault: OSError) -> bool:
    """Whether the same request may be answered in a moment. A server that cannot be reached is another matter."""
    answers = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ConnectionError)
    return not isinstance(fault, answers) and fault.errno != errno.EINVAL


def describe_fault(url: str, fault: OSError) -> str:
    """Why nothing can be read of a URL, in words."""
    if isinstance(fault, FileNotFoundError):
        return str(fault.strerror)
    if isinstance(fault, PermissionError):
        return f"not permitted to read it ({fault.strerror}): check the credentials that the environment gives"
    return describe_os_error(plain(url), fault)
