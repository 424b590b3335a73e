"""ImageService: images that look alike."""

from functools import partial

import grpc
from image_categorizer.v1 import duplicate_pb2

from image_categorizer_server.rpc import pages
from image_categorizer_server.rpc.call import current_tenant
from image_categorizer_server.services.duplicate import DEFAULT_BITS, DuplicateGroup, Duplicates

Context = grpc.aio.ServicerContext


class DuplicateServicer:
    """Serves the RPC of ImageService about images that look alike."""

    def __init__(self, duplicates: Duplicates, max_page_bytes: int) -> None:
        self._duplicates = duplicates
        self._max_page_bytes = max_page_bytes

    async def ListDuplicateGroups(
        self,
        request: duplicate_pb2.ListDuplicateGroupsRequest,
        context: Context[
            duplicate_pb2.ListDuplicateGroupsRequest, duplicate_pb2.ListDuplicateGroupsResponse
        ],
    ) -> duplicate_pb2.ListDuplicateGroupsResponse:
        has_bits = request.HasField("max_distance_bits")
        bits = request.max_distance_bits if has_bits else DEFAULT_BITS
        groups = partial(self._duplicates.list_page, current_tenant(), bits)
        page = await pages.read(request, groups, group_to_wire, self._max_page_bytes)
        return duplicate_pb2.ListDuplicateGroupsResponse(
            groups=page.messages, next_page_token=page.next_page_token
        )


def group_to_wire(value: DuplicateGroup) -> duplicate_pb2.DuplicateGroup:
    """Returns a group as a message."""
    return duplicate_pb2.DuplicateGroup(image_count=value.image_count, image_ids=value.image_ids)
