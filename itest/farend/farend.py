#!/usr/bin/env python3
"""A far end of the offer protocol, beside an lnd: see README.md.

It takes every offer that it is made, accepts it, and is the client of a leg
that the offer grants. What it does it tells on its standard output, a JSON
object a line.
"""

import argparse
import asyncio
import json
import secrets
import signal
import sys
import time

import delivery
import legs
import vectors
import wire
from lnd import Lnd, LndError

WEEK, SLACK = 7 * 24 * 3600, 600

# What a peer can have this program remember, and all of them together.
MAX_OFFERS_OF_PEER, MAX_OFFERS = 50, 1000
MAX_CLOSES_OF_PEER, MAX_CLOSES = 20, 1000


def say(event, **fields):
    """Tell what happened. Tokens are never told."""
    fields = {name: value.hex() if isinstance(value, bytes) else value
              for name, value in fields.items()}
    print(json.dumps({"event": event, **fields}), flush=True)


class Offer:
    """An offer that was made to this node, or a request that it made."""

    def __init__(self, peer, message, state, until):
        self.peer = peer
        self.message = message
        self.id = message["message_id"]
        self.state = state

        # When it ends if it is undecided, and until when it is remembered.
        self.until = until
        self.forget = max(until, message["expiry"] + SLACK)

        # The id of the accept, and what uses the leg, once it is accepted.
        self.accept_id = None
        self.client = None


class FarEnd:
    """The state of everything that was agreed with other nodes."""

    def __init__(self, lnd, pubkey, options):
        self.pubkey = pubkey
        self.options = options
        self.outbox = delivery.Outbox(lnd, say)
        self.rates = delivery.Rates()
        self.dialer = legs.Dialer(options, say)

        # By peer and id; of the closes of what is not known, when they came.
        self.offers, self.requests, self.closes = {}, {}, {}
        self.leaving = False
        self.handlers = {
            wire.OFFER: self.on_offer, wire.REQUEST: self.on_request,
            wire.ACCEPT: self.on_accept, wire.REJECT: self.on_reject,
            wire.CLOSE: self.on_close, wire.ACK: self.on_ack,
        }

    def receive(self, peer, msg_type, body):
        """Act on a message of a peer."""
        if msg_type not in self.handlers:
            return
        if not self.rates.allow(peer):
            say("dropped", peer=peer, why="rate")
            return
        try:
            message = wire.decode(msg_type, body)
        except wire.Refused as err:
            self.refuse(peer, msg_type, err)
            return
        self.handlers[msg_type](peer, message)

    def refuse(self, peer, msg_type, err):
        """Answer a message that cannot be acted on, if that is allowed."""
        if err.message_id is None or msg_type == wire.ACK:
            say("dropped", peer=peer, why=str(err))
        elif msg_type == wire.REJECT:
            self.ack(peer, err.message_id)
        else:
            self.reject(peer, err.message_id, err.reason)

    def answer(self, msg_type, peer, to_id, **fields):
        """Send an answer once: if it is lost the message comes again."""
        self.outbox.put(peer, msg_type, wire.encode(msg_type, {
            "message_id": secrets.token_bytes(32), "reply_to_id": to_id,
            **fields}))

    def ack(self, peer, to_id):
        """Say that a message arrived."""
        self.answer(wire.ACK, peer, to_id)

    def reject(self, peer, to_id, code, text=""):
        """Say that a message is turned down."""
        say("refused", peer=peer, id=to_id, code=code, text=text)
        self.answer(wire.REJECT, peer, to_id, code=wire.CODES[code],
                    **({"text": text} if text else {}))

    def send(self, msg_type, offer, **fields):
        """Send a message about an offer until it is answered."""
        message_id = secrets.token_bytes(32)
        body = wire.encode(msg_type, {
            "message_id": message_id, "reply_to_id": offer.id, **fields})
        until = max(offer.message["expiry"], time.time()) + SLACK
        self.outbox.send_until(offer.peer, msg_type, message_id, body, until)
        return message_id

    def on_offer(self, peer, message):
        """Take an offer in, and accept it."""
        offer_id, expiry = message["message_id"], message["expiry"]
        if (peer, offer_id) in self.offers or (peer, offer_id) in self.closes:
            self.ack(peer, offer_id)
            return
        if self.leaving or self.is_taken(offer_id):
            return
        now = time.time()
        if not self.in_time(peer, message, now):
            return
        if message.get("host") == self.pubkey:
            self.reject(peer, offer_id, "policy", "this node hosts the socket")
            return
        request = None
        if "reply_to_id" in message:
            request = self.requests.get((peer, message["reply_to_id"]))
            if not self.is_answer(peer, message, request):
                return
        if self.is_full(peer):
            self.reject(peer, offer_id, "limit")
            if request:
                self.end(request, "REJECTED")
            return

        until = expiry if expiry > now else expiry + SLACK
        offer = Offer(peer, message, "PENDING", until)
        self.offers[peer, offer_id] = offer
        if request:
            self.end(request, "ACCEPTED")
        tell = vectors.to_fields(message)
        for secret in ("token1", "token2"):
            tell.pop(secret, None)
        say("offer", peer=peer, **tell)
        self.ack(peer, offer_id)
        self.decide(offer)

    def is_taken(self, message_id):
        """Say whether an id is known as anything else."""
        return any(message_id == known
                   for _, known in [*self.offers, *self.requests])

    def in_time(self, peer, message, now):
        """Refuse a message whose expiry is out of range."""
        if message["expiry"] > now + WEEK + SLACK:
            self.reject(peer, message["message_id"], "malformed")
        elif message["expiry"] <= now - SLACK:
            self.reject(peer, message["message_id"], "expired")
        else:
            return True
        return False

    def is_full(self, peer):
        """Say whether there is no room for another offer."""
        of_peer = sum(other == peer for other, _ in self.offers)
        return of_peer >= MAX_OFFERS_OF_PEER or len(self.offers) >= MAX_OFFERS

    def is_answer(self, peer, message, request):
        """Refuse an offer that does not answer a request as it was made."""
        if request is None:
            self.reject(peer, message["message_id"], "unknown")
        elif request.state not in ("SENT", "PENDING"):
            self.reject(peer, message["message_id"], "expired")
        elif (message.get("host", peer) != peer
              or any(message[name] != request.message[name]
                     for name in ("protocol", "legs", "admission"))):
            self.reject(peer, message["message_id"], "policy",
                        "this is not what was asked for")
            self.end(request, "REJECTED")
        else:
            return True
        return False

    def decide(self, offer):
        """Accept an offer and use its leg, or decline it."""
        if self.options.decline and "reply_to_id" not in offer.message:
            self.send(wire.REJECT, offer, code=wire.CODES["declined"],
                      text=self.options.decline)
            self.end(offer, "REJECTED")
            return
        offer.state = "ACCEPTED"
        offer.accept_id = self.send(wire.ACCEPT, offer)
        say("accepted", id=offer.id, accept_id=offer.accept_id)

    def answered(self, peer, message_id):
        """Stop sending a message, and use the leg if it was an accept.

        The leg could be used before. Then the host may take that for the
        acceptance.
        """
        if not self.outbox.stop(peer, message_id):
            return
        say("answered", peer=peer, id=message_id)
        for offer in self.offers.values():
            if ((offer.peer, offer.accept_id) == (peer, message_id)
                    and offer.state == "ACCEPTED"):
                offer.client = asyncio.create_task(
                    self.dialer.use(offer.message))

    def end(self, offer, state, text=""):
        """End an offer or request, and what is sent and done for it."""
        offer.state = state
        offer.forget = max(offer.message["expiry"], time.time()) + SLACK
        for name in ("token1", "token2"):
            offer.message.pop(name, None)
        self.outbox.stop(offer.peer, offer.accept_id)
        self.outbox.stop(offer.peer, offer.id)
        if offer.client:
            offer.client.cancel()
        say("ended", id=offer.id, state=state, text=text)

    def on_request(self, peer, message):
        """Turn a request down: this program does not host."""
        if not self.is_taken(message["message_id"]):
            self.reject(peer, message["message_id"], "policy",
                        "this node hosts for nobody")

    def on_accept(self, peer, message):
        """Turn an acceptance down: this program makes no offers."""
        self.reject(peer, message["message_id"], "unknown")

    def on_reject(self, peer, message):
        """Stop sending what is turned down, and end what it was about."""
        named, code = message["reply_to_id"], message["code"]
        text = message.get("text", "")
        request = self.requests.get((peer, named))
        if request and request.state in ("SENT", "PENDING"):
            self.end(request, "REJECTED", text)
        over = (wire.CODES["unknown"], wire.CODES["expired"])
        for offer in self.offers.values():
            if ((offer.peer, offer.accept_id) == (peer, named)
                    and offer.state == "ACCEPTED" and code in over):
                self.end(offer, "CLOSED", text)
        self.answered(peer, named)
        self.ack(peer, message["message_id"])

    def on_close(self, peer, message):
        """End what is closed. What is not known may come later."""
        key, text = (peer, message["reply_to_id"]), message.get("text", "")
        known = self.offers.get(key) or self.requests.get(key)
        of_peer = sum(other == peer for other, _ in self.closes)
        if known is None:
            if of_peer < MAX_CLOSES_OF_PEER and len(self.closes) < MAX_CLOSES:
                self.closes[key] = time.time()
        elif key in self.requests:
            if known.state in ("SENT", "PENDING"):
                self.end(known, "CLOSED", text)
        elif known.state == "ACCEPTED":
            self.end(known, "CLOSED", text)
        elif known.state == "PENDING":
            self.end(known, "WITHDRAWN", text)
        self.ack(peer, message["message_id"])

    def on_ack(self, peer, message):
        """Stop sending what arrived."""
        named = message["reply_to_id"]
        self.answered(peer, named)
        request = self.requests.get((peer, named))
        if request and request.state == "SENT":
            request.state = "PENDING"
        elif request and request.state in ("REJECTED", "CLOSED", "WITHDRAWN"):
            self.send(wire.CLOSE, request)

    def request(self, peer):
        """Ask a node to host a socket and to offer leg 2 of it."""
        message = {
            "message_id": secrets.token_bytes(32), "legs": 2,
            "protocol": {"udp": wire.UDP, "tcp": wire.TCP}[
                self.options.protocol],
            "admission": wire.TOKEN, "expiry": int(time.time()) + 3600,
        }
        request = Offer(peer, message, "SENT", message["expiry"])
        self.requests[peer, request.id] = request
        say("requested", peer=peer, id=request.id)
        self.outbox.send_until(
            peer, wire.REQUEST, request.id,
            wire.encode(wire.REQUEST, message), message["expiry"])

    def tick(self):
        """End what has expired and forget what is long over."""
        now = time.time()
        for store in (self.offers, self.requests):
            for key, offer in list(store.items()):
                undecided = offer.state in ("SENT", "PENDING")
                if undecided and offer.until <= now:
                    self.end(offer, "EXPIRED")
                elif offer.state != "ACCEPTED" and offer.forget <= now:
                    del store[key]
        for key, came in list(self.closes.items()):
            if came + SLACK <= now:
                del self.closes[key]

    async def leave(self):
        """Close what is accepted, and give the closes time to arrive."""
        self.leaving = True
        for offer in self.offers.values():
            if offer.state == "ACCEPTED":
                self.send(wire.CLOSE, offer)
                self.end(offer, "CLOSED")
        for request in self.requests.values():
            if request.state in ("SENT", "PENDING"):
                self.send(wire.CLOSE, request)
                self.end(request, "WITHDRAWN")
        await self.outbox.drain(timeout=5)


async def listen(lnd, far_end):
    """Hand over all messages, and begin again when lnd goes away."""
    wait = 1
    while True:
        try:
            async for peer, msg_type, body in lnd.messages():
                far_end.receive(peer, msg_type, body)
                wait = 1
        except (OSError, ValueError, LndError) as err:
            say("disconnected", why=str(err))
        await asyncio.sleep(wait)
        wait = min(2 * wait, 30)


async def run(options):
    """Be a far end until a signal comes."""
    lnd = Lnd(options.lnd, options.tlscert, options.macaroon)
    pubkey = await lnd.pubkey()
    far_end = FarEnd(lnd, pubkey, options)
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    say("started", pubkey=pubkey)

    listener = asyncio.create_task(listen(lnd, far_end))
    listener.add_done_callback(lambda _: stop.set())
    if options.request:
        far_end.request(options.request)
    while not stop.is_set() and not listener.done():
        far_end.tick()
        try:
            await asyncio.wait_for(stop.wait(), 1)
        except TimeoutError:
            pass
    if listener.done():
        listener.result()
    await far_end.leave()
    listener.cancel()
    say("stopped")


def pubkey_argument(text):
    """Return the public key that an argument names."""
    return wire.decode_pubkey(bytes.fromhex(text))


def main():
    """Read the options and do what they say."""
    if sys.version_info < (3, 11):
        sys.exit("farend: this needs Python 3.11 or later")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--lnd", metavar="HOST:PORT", help="where lnd's REST API is")
    add("--tlscert", metavar="FILE", help="lnd's tls.cert")
    add("--macaroon", metavar="FILE", help="a macaroon of lnd's")
    add("--allow-private", action="store_true",
        help="connect to addresses that are not global, and to low ports")
    add("--greeting", default="", metavar="TEXT",
        help="what to send first on a leg")
    add("--echo", action="store_true", help="send back what comes")
    add("--decline", metavar="TEXT", help="decline all offers, and say why")
    add("--request", type=pubkey_argument, metavar="PUBKEY",
        help="ask a node to host a socket")
    add("--protocol", choices=("udp", "tcp"), default="udp",
        help="the protocol to ask for")
    add("--vectors", action="append", metavar="FILE",
        help="check a file of test vectors, and end")
    options = parser.parse_args()
    if options.vectors:
        right = [vectors.check_file(path, say) for path in options.vectors]
        return 0 if all(right) else 1
    for name in ("lnd", "tlscert", "macaroon"):
        if getattr(options, name) is None:
            parser.error(f"--{name} is missing")
    try:
        asyncio.run(run(options))
    except (OSError, ValueError, LndError) as err:
        print(f"farend: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
