"""Lists, page by page: as many objects at a time as the limit of an answer's size lets through.

Source: Kubernetes API concepts, "Retrieving large results sets in chunks".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from credrotator.kube.client.api_errors import BodyTooLong

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.kube.client.api import KubeApi
    from credrotator.kube.client.api_objects import Json

PAGE = 500


def pages(api: KubeApi, path: str, **selectors: Any) -> Iterator[Json]:
    """Yield the list objects of a collection's pages; the last one's resourceVersion is where a watch begins.

    Args:
        api: The server.
        path: A collection, of one namespace or of all.
        selectors: ``labelSelector`` and ``fieldSelector``.

    Raises:
        ApiError: The server's refusal; 410 where the objects changed for too long meanwhile.
    """
    limit, following = PAGE, None
    while True:
        try:
            page = api.get(path, limit=limit, **{"continue": following}, **selectors)
        except BodyTooLong:
            if limit == 1:
                raise
            # Anybody may fill an object up to 1.5 MiB, and 500 of those are none of our business to hold at a time.
            limit //= 2
            continue
        yield page
        # The same list continued: the server keeps to the version of the first page, so nothing appears twice or is
        # missed.
        following = (page.get("metadata") or {}).get("continue")
        if not following:
            return


def items(api: KubeApi, path: str, **selectors: Any) -> Iterator[Json]:
    """Yield the objects of a collection; see ``pages``."""
    for page in pages(api, path, **selectors):
        yield from page.get("items") or ()
