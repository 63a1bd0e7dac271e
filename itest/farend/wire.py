"""The messages of the offer protocol: docs/protocol.md, "Encoding".

decode() makes a dictionary of a body, by the names of the test vectors, and
encode() the body of such a dictionary. Ids, tokens and keys are bytes, texts
are strings, addresses are a list of ipaddress objects, all else is a number.
"""

import ipaddress
import unicodedata
from typing import Callable, NamedTuple

VERSION = 1
MAX_BODY = 2048
HEADER_SIZE = 37

OFFER, REQUEST, ACCEPT, REJECT, CLOSE, ACK = range(50501, 50513, 2)
UDP, TCP = 1, 2
OPEN, TOKEN = 0, 1

CODES = {
    "declined": 1, "version": 2, "malformed": 3, "limit": 4, "expired": 5,
    "unknown": 6, "unsupported": 7, "policy": 8,
}


class Refused(Exception):
    """A body that a receiver must not act on.

    reason is "too_large" or the name of a code. message_id is that of the
    message, None if it has none that could be answered.
    """

    def __init__(self, reason, what, message_id=None):
        super().__init__(f"{reason}: {what}")
        self.reason = reason
        self.message_id = message_id


def malformed(what):
    """Return the refusal of a body that breaks a rule."""
    return Refused("malformed", what)


class Kind(NamedTuple):
    """How a value of one kind is read and written."""

    decode: Callable
    encode: Callable


class Record(NamedTuple):
    """A record that is defined for a message."""

    name: str
    kind: Kind
    required: bool = True


def number(size, low=0, high=None):
    """Return the kind of the numbers of so many bytes."""
    def decode(value):
        if len(value) != size:
            raise malformed(f"{len(value)} bytes, not {size}")
        num = int.from_bytes(value, "big")
        if num < low or (high is not None and num > high):
            raise malformed(f"{num} is out of range")
        return num

    return Kind(decode, lambda num: num.to_bytes(size, "big"))


def secret(size):
    """Return the kind of the ids and tokens: never all zero."""
    def decode(value):
        if len(value) != size:
            raise malformed(f"{len(value)} bytes, not {size}")
        if not any(value):
            raise malformed("all zero")
        return value

    return Kind(decode, bytes)


def decode_pubkey(value):
    """Read the public key of a node."""
    if len(value) != 33 or value[0] not in (2, 3):
        raise malformed("not a public key")
    return value


def decode_text(value):
    """Read a text, which has nothing in it that is not to be seen."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as err:
        raise malformed("not UTF-8") from err
    if len(text) > 64:
        raise malformed("a text of more than 64 characters")
    for char in text:
        if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp"):
            raise malformed(f"a text with U+{ord(char):04X}")
    return text


def decode_addresses(value):
    """Read one to eight addresses, all different."""
    addresses = []
    while value:
        size = {4: 4, 6: 16}.get(value[0])
        if size is None or len(value) <= size:
            raise malformed("an address of no known form, or cut short")
        address = ipaddress.ip_address(value[1:1 + size])
        if size == 16 and address.ipv4_mapped:
            raise malformed("an IPv4 address mapped into IPv6")
        addresses.append(address)
        value = value[1 + size:]
    if not 1 <= len(addresses) <= 8:
        raise malformed(f"{len(addresses)} addresses")
    if len(set(addresses)) != len(addresses):
        raise malformed("an address twice")
    return addresses


def encode_addresses(addresses):
    """Write the addresses of an offer."""
    return b"".join(bytes([a.version]) + a.packed for a in addresses)


ID, SECRET = secret(32), secret(16)
PUBKEY = Kind(decode_pubkey, bytes)
TEXT = Kind(decode_text, str.encode)
ADDRESSES = Kind(decode_addresses, encode_addresses)
BYTE, LEGS, LIMIT = number(1), number(1, 1, 3), number(8, 1)
PORT, CODE, TIME = number(2, 1), number(2, 1), number(8)

HEADER = {0: Record("version", BYTE), 2: Record("message_id", ID)}
ANSWER = {**HEADER, 4: Record("reply_to_id", ID)}

# The records of each message, by their types.
MESSAGES = {
    OFFER: {
        **HEADER,
        4: Record("reply_to_id", ID, required=False),
        6: Record("protocol", BYTE),
        7: Record("label", TEXT, required=False),
        8: Record("addresses", ADDRESSES),
        10: Record("port1", PORT),
        12: Record("port2", PORT),
        14: Record("legs", LEGS),
        16: Record("admission", BYTE),
        18: Record("expiry", TIME),
        20: Record("socket_id", ID),
        22: Record("token1", SECRET, required=False),
        24: Record("token2", SECRET, required=False),
        27: Record("host", PUBKEY, required=False),
    },
    REQUEST: {
        **HEADER,
        6: Record("protocol", BYTE),
        7: Record("label", TEXT, required=False),
        14: Record("legs", LEGS),
        16: Record("admission", BYTE),
        18: Record("expiry", TIME),
        26: Record("bandwidth", LIMIT, required=False),
        28: Record("packets", LIMIT, required=False),
        30: Record("total_bytes", LIMIT, required=False),
        32: Record("idle_timeout", LIMIT, required=False),
        34: Record("lifetime", LIMIT, required=False),
        36: Record("pairs", LIMIT, required=False),
    },
    ACCEPT: ANSWER,
    REJECT: {
        **ANSWER,
        6: Record("code", CODE),
        7: Record("text", TEXT, required=False),
    },
    CLOSE: {**ANSWER, 7: Record("text", TEXT, required=False)},
    ACK: ANSWER,
}


def read_bigsize(body, at):
    """Read a BigSize and return it, and where it ends."""
    if at >= len(body):
        raise malformed("cut short")
    size = {0xfd: 2, 0xfe: 4, 0xff: 8}.get(body[at])
    if size is None:
        return body[at], at + 1
    raw = body[at + 1:at + 1 + size]
    num = int.from_bytes(raw, "big")
    if len(raw) < size:
        raise malformed("cut short")
    if num < {2: 0xfd, 4: 1 << 16, 8: 1 << 32}[size]:
        raise malformed("a number that is not minimally encoded")
    return num, at + 1 + size


def write_bigsize(num):
    """Write a BigSize."""
    for first, size in ((0xfd, 2), (0xfe, 4), (0xff, 8)):
        if num < 0xfd:
            return bytes([num])
        if num < 1 << 8 * size:
            return bytes([first]) + num.to_bytes(size, "big")
    raise ValueError(num)


def read_header(body):
    """Return the version and the message id that a body begins with."""
    if len(body) > MAX_BODY:
        raise Refused("too_large", f"{len(body)} bytes")
    form = (body[:2], body[3:5]) == (b"\x00\x01", b"\x02\x20")
    if not form or len(body) < HEADER_SIZE or not any(body[5:HEADER_SIZE]):
        raise malformed("no header")
    return body[2], body[5:HEADER_SIZE]


def decode(msg_type, body):
    """Return what a message says, or raise Refused."""
    version, message_id = read_header(body)
    try:
        if version != VERSION:
            raise Refused("version", version)
        return decode_records(msg_type, body)
    except Refused as err:
        err.message_id = message_id
        raise


def decode_records(msg_type, body):
    """Return what a message of this version says, or raise Refused."""
    records, message = MESSAGES[msg_type], {}
    at, last, strange = 0, -1, []
    while at < len(body):
        num, at = read_bigsize(body, at)
        size, at = read_bigsize(body, at)
        if num <= last:
            raise malformed("records out of order")
        if size > len(body) - at:
            raise malformed("cut short")
        if num in records:
            name, kind, _ = records[num]
            message[name] = kind.decode(body[at:at + size])
        elif num % 2 == 0:
            strange.append(f"record {num}")
        at, last = at + size, num

    for record in records.values():
        if record.required and record.name not in message:
            raise malformed(f"no {record.name}")
        if record.kind is TEXT and not message.get(record.name):
            message.pop(record.name, None)
    check(message, strange)
    return message


def check(message, strange):
    """Refuse what records of a message say together."""
    protocol, admission = message.get("protocol"), message.get("admission")
    if "port1" in message and message["port1"] == message["port2"]:
        raise malformed("one port for both legs")
    if protocol not in (None, UDP, TCP):
        strange.append(f"protocol {protocol}")
    if admission not in (None, OPEN, TOKEN):
        strange.append(f"admission {admission}")
    if strange:
        raise Refused("unsupported", ", ".join(strange))

    wrong = {UDP: "pairs", TCP: "packets"}.get(protocol)
    if wrong in message:
        raise malformed(f"{wrong} with this protocol")
    if "socket_id" in message:
        for leg in (1, 2):
            need = admission == TOKEN and bool(message["legs"] & leg)
            if need != (f"token{leg}" in message):
                raise malformed(f"token {leg} is missing, or not granted")


def encode(msg_type, message):
    """Return the body of a message."""
    message = {"version": VERSION, **message}
    body = b""
    for num, (name, kind, _) in sorted(MESSAGES[msg_type].items()):
        if name in message:
            value = kind.encode(message[name])
            body += write_bigsize(num) + write_bigsize(len(value)) + value
    return body
