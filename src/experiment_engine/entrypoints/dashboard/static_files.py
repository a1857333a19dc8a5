"""Stylesheet, scripts and pictures, named by their content: browsers keep them for good."""

import gzip
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

FOLDER = Path(__file__).parent / "static"

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FOR_GOOD = "public, max-age=31536000, immutable"
_DIGEST = 12  # characters of it in a name


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    compressed: bytes
    media_type: str


class StaticFiles:
    """Serves the files of `static/`, read once."""

    def __init__(self, folder: Path = FOLDER) -> None:
        """Read the folder; what a stylesheet names in it is renamed along."""
        self._paths: dict[str, str] = {}
        self._files: dict[str, _File] = {}
        found = [path for path in sorted(folder.iterdir()) if path.suffix in _TYPES]
        for path in sorted(
            found, key=lambda path: path.suffix == ".css"
        ):  # what names others last
            content = path.read_bytes()
            if path.suffix == ".css":
                for name, address in self._paths.items():
                    content = content.replace(f'"{name}"'.encode(), f'"{address}"'.encode())
            digest = sha256(content).hexdigest()[:_DIGEST]
            hashed = f"{path.stem}.{digest}{path.suffix}"
            self._paths[path.name] = f"/static/{hashed}"
            self._files[hashed] = _File(
                content, gzip.compress(content, 9, mtime=0), _TYPES[path.suffix]
            )

    def address(self, name: str) -> str:
        """Return where a file is served."""
        return self._paths[name]

    def serve(self, request: Request) -> Response:
        """Answer one file."""
        found = self._files.get(request.path_params["name"])
        if found is None:
            return PlainTextResponse("There is no such file.", 404)
        headers = {"cache-control": _FOR_GOOD, "vary": "accept-encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["content-encoding"] = "gzip"
            return Response(found.compressed, headers=headers, media_type=found.media_type)
        return Response(found.content, headers=headers, media_type=found.media_type)
