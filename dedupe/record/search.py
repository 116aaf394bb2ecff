"""Search attributes: what the service's visibility finds keys by, where a project asks for it.

The key and its activity are given when its workflow is started. The state is set where somebody may have to
do something: a key that failed, or is held. Setting it takes a workflow task, so a key that is executed in
place and succeeds costs no more than without.
"""

from collections.abc import Sequence
from enum import StrEnum

from temporalio.api.common.v1 import SearchAttributes
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.converter import encode_search_attributes

from dedupe.model.messages import Start

KEY = SearchAttributeKey.for_keyword("DedupeKey")
ACTIVITY = SearchAttributeKey.for_keyword("DedupeActivity")
STATE = SearchAttributeKey.for_keyword("DedupeState")
NAMES = (KEY.name, ACTIVITY.name, STATE.name)

LONGEST = 255
"""Characters that every store of visibility takes of a keyword."""


class SearchState(StrEnum):
    """What `STATE` says."""

    FAILED = "failed"
    HELD = "held"


def attributes_of(start: Start) -> SearchAttributes:
    """Return what a key's workflow is started with."""
    pairs = [
        SearchAttributePair(KEY, start.key[:LONGEST]),
        SearchAttributePair(ACTIVITY, start.activity[:LONGEST]),
    ]
    if start.unknown is not None:
        pairs.append(SearchAttributePair(STATE, SearchState.HELD.value))
    attributes = SearchAttributes()
    encode_search_attributes(TypedSearchAttributes(pairs), attributes)
    return attributes


async def missing(client: Client) -> Sequence[str]:
    """Return the names of the search attributes that the client's namespace does not have.

    Raises:
        RPCError: The service could not be asked.
    """
    request = ListSearchAttributesRequest(namespace=client.namespace)
    response = await client.operator_service.list_search_attributes(request, retry=True)
    keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
    return [name for name in NAMES if response.custom_attributes.get(name) != keyword]


async def register(client: Client, names: Sequence[str]) -> None:
    """Register search attributes in the client's namespace.

    Raises:
        RPCError: The service did not take the request: Temporal Cloud takes it through its own tools alone.
    """
    keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
    request = AddSearchAttributesRequest(
        namespace=client.namespace, search_attributes=dict.fromkeys(names, keyword)
    )
    await client.operator_service.add_search_attributes(request, retry=True)
