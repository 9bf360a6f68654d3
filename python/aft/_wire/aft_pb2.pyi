from aft._wire import anna_pb2 as _anna_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

ABORTED: TransactionStatus
COMMITTED: TransactionStatus
DESCRIPTOR: _descriptor.FileDescriptor
RUNNING: TransactionStatus

class CommitRequest(_message.Message):
    __slots__ = ["addresses", "responseAddress", "tid"]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    RESPONSEADDRESS_FIELD_NUMBER: _ClassVar[int]
    TID_FIELD_NUMBER: _ClassVar[int]
    addresses: _containers.RepeatedScalarFieldContainer[str]
    responseAddress: str
    tid: str
    def __init__(self, tid: _Optional[str] = ..., responseAddress: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ...) -> None: ...

class KeyValuePair(_message.Message):
    __slots__ = ["cowrittenKeys", "key", "mark", "tid", "timestamp", "value"]
    COWRITTENKEYS_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    MARK_FIELD_NUMBER: _ClassVar[int]
    TID_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    cowrittenKeys: _containers.RepeatedScalarFieldContainer[str]
    key: str
    mark: int
    tid: str
    timestamp: int
    value: bytes
    def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ..., cowrittenKeys: _Optional[_Iterable[str]] = ..., tid: _Optional[str] = ..., timestamp: _Optional[int] = ..., mark: _Optional[int] = ...) -> None: ...

class MetadataRequest(_message.Message):
    __slots__ = ["address", "responseAddress", "tid"]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RESPONSEADDRESS_FIELD_NUMBER: _ClassVar[int]
    TID_FIELD_NUMBER: _ClassVar[int]
    address: str
    responseAddress: str
    tid: str
    def __init__(self, tid: _Optional[str] = ..., responseAddress: _Optional[str] = ..., address: _Optional[str] = ...) -> None: ...

class TransactionIdList(_message.Message):
    __slots__ = ["ids"]
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ids: _Optional[_Iterable[str]] = ...) -> None: ...

class TransactionList(_message.Message):
    __slots__ = ["records"]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[TransactionRecord]
    def __init__(self, records: _Optional[_Iterable[_Union[TransactionRecord, _Mapping]]] = ...) -> None: ...

class TransactionRecord(_message.Message):
    __slots__ = ["fresh", "id", "readSet", "replicaId", "status", "timestamp", "writeSet"]
    class ReadSetEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    FRESH_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    READSET_FIELD_NUMBER: _ClassVar[int]
    REPLICAID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    WRITESET_FIELD_NUMBER: _ClassVar[int]
    fresh: _containers.RepeatedScalarFieldContainer[int]
    id: str
    readSet: _containers.ScalarMap[str, str]
    replicaId: str
    status: TransactionStatus
    timestamp: int
    writeSet: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., timestamp: _Optional[int] = ..., status: _Optional[_Union[TransactionStatus, str]] = ..., replicaId: _Optional[str] = ..., writeSet: _Optional[_Iterable[str]] = ..., readSet: _Optional[_Mapping[str, str]] = ..., fresh: _Optional[_Iterable[int]] = ...) -> None: ...

class TransactionTag(_message.Message):
    __slots__ = ["address", "detail", "error", "id", "status"]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    address: str
    detail: str
    error: _anna_pb2.AnnaError
    id: str
    status: TransactionStatus
    def __init__(self, id: _Optional[str] = ..., status: _Optional[_Union[TransactionStatus, str]] = ..., address: _Optional[str] = ..., error: _Optional[_Union[_anna_pb2.AnnaError, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class TransactionStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []
