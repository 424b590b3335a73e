"""AdminService: who calls."""

import grpc
from image_categorizer.v1 import caller_pb2

from image_categorizer_server.rpc.call import current_call

Context = grpc.aio.ServicerContext


class CallerServicer:
    """Serves the RPC of AdminService about the caller."""

    async def GetCaller(
        self,
        request: caller_pb2.GetCallerRequest,
        context: Context[caller_pb2.GetCallerRequest, caller_pb2.Caller],
    ) -> caller_pb2.Caller:
        principal = current_call.get().principal
        assert principal is not None, "the RPC requires credentials"
        return caller_pb2.Caller(
            actor_id=principal.actor_id,
            tenant_id=principal.tenant_id,
            role=principal.role.name.lower(),
            scopes=sorted(scope.value for scope in principal.scopes),
        )
