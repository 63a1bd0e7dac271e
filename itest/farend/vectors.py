"""The test vectors of both protocols, checked against this program."""

import ipaddress
import json

import bind
import wire

# The fields that the vectors have as texts of decimal digits.
DECIMAL = ("expiry", "bandwidth", "packets", "total_bytes", "idle_timeout",
           "lifetime", "pairs")


def check_offer(vector):
    """Return what is wrong about a message of the offer protocol."""
    body = bytes.fromhex(vector["hex"])
    header = None
    try:
        version, message_id = wire.read_header(body)
        header = {"version": version, "message_id": message_id.hex()}
    except wire.Refused:
        pass
    if header != vector["header"]:
        return f"header {header}"

    try:
        message = wire.decode(vector["type"], body)
    except wire.Refused as err:
        return "" if err.reason == vector.get("error") else str(err)
    if to_fields(message) != vector.get("fields"):
        return f"fields {to_fields(message)}"
    again = wire.encode(vector["type"], from_fields(vector["fields"]))
    if again.hex() != vector.get("canonical", vector["hex"]):
        return f"encoded {again.hex()}"
    return ""


def to_fields(message):
    """Return a message as the vectors write it."""
    fields = {}
    for name, value in message.items():
        if isinstance(value, bytes):
            value = value.hex()
        elif name == "addresses":
            value = [str(address) for address in value]
        elif name == "protocol":
            value = {wire.UDP: "udp", wire.TCP: "tcp"}[value]
        elif name in DECIMAL:
            value = str(value)
        if name != "version":
            fields[name] = value
    return fields


def from_fields(fields):
    """Return the message that the fields of a vector make."""
    message = {}
    for name, value in fields.items():
        if name == "addresses":
            value = [ipaddress.ip_address(text) for text in value]
        elif name == "protocol":
            value = {"udp": wire.UDP, "tcp": wire.TCP}[value]
        elif name in DECIMAL:
            value = int(value)
        elif isinstance(value, str) and name not in ("label", "text"):
            value = bytes.fromhex(value)
        message[name] = value
    return message


def check_bind(vector):
    """Return what is wrong about a message of the bind."""
    data = bytes.fromhex(vector["hex"])
    leg = bind.Leg(bytes.fromhex(vector["socket_id"]), vector["leg"],
                   vector["protocol"], bytes.fromhex(vector["token"]))
    message = bind.parse(leg, data)
    if isinstance(message, str):
        return "" if message == vector.get("error") else message
    if not message.is_proper():
        return "" if vector.get("error") == "format" else "format"
    fields = {
        "type": message.type, "addr": message.address(),
        "nonce": message.nonce.hex(), "cookie": message.cookie.hex(),
    }
    if fields != vector.get("fields"):
        return f"fields {fields}"
    return "" if message.seal(leg) == data else "another MAC"


def check_file(path, say):
    """Check a file of vectors and return whether all are right."""
    with open(path, encoding="utf-8") as file:
        vectors = json.load(file)
    check = check_bind
    if isinstance(vectors, dict):
        vectors, check = vectors["vectors"], check_offer

    right = 0
    for vector in vectors:
        wrong = check(vector)
        if wrong:
            say("wrong", name=vector["name"], got=wrong,
                want=vector.get("error") or vector["fields"])
        else:
            right += 1
    say("vectors", file=path, right=right, of=len(vectors))
    return bool(vectors) and right == len(vectors)
