"""What uses the leg of an offer, and which addresses it may use."""

import asyncio
import ipaddress
import time

import bind
import wire

# How often a leg of an offer is tried, and after how many seconds one
# destination again.
TRIES, PAUSE = 3, 2

GLOBAL6 = ipaddress.ip_network("2000::/3")


def is_allowed(address, port):
    """Say whether a program may connect to where a stranger tells it to."""
    if address.is_multicast or not address.is_global or port < 1024:
        return False
    return address.version == 4 or (
        address in GLOBAL6 and not address.sixtofour and not address.teredo)


class Dialer:
    """What connects to the legs of all offers."""

    def __init__(self, options, say):
        self.options = options
        self.say = say

        # When each destination was tried last, by address and port.
        self.tried = {}

    async def use(self, offer):
        """Be the client of a leg that is granted, until that ends."""
        num = 2 if offer["legs"] & 2 else 1
        leg = bind.Leg(offer["socket_id"], num, offer["protocol"],
                       offer.get(f"token{num}", b""))
        offer_id, port = offer["message_id"], offer[f"port{num}"]
        places = [address for address in offer["addresses"]
                  if self.options.allow_private or is_allowed(address, port)]
        if not places:
            self.say("leg refused", id=offer_id,
                     why="no address that a stranger may name")
            return

        run = self.use_udp if leg.protocol == wire.UDP else self.use_tcp
        for attempt in range(TRIES):
            address = str(places[attempt % len(places)])
            try:
                await self.pause(address, port)
                await run(offer_id, leg, address, port)
                self.say("leg ended", id=offer_id)
                return
            except (OSError, asyncio.IncompleteReadError) as err:
                self.say("leg failed", id=offer_id, why=repr(err))

    async def pause(self, address, port):
        """Wait until a destination may be tried again."""
        now = time.monotonic()
        self.tried = {place: at for place, at in self.tried.items()
                      if at + PAUSE > now}
        at = max(now, self.tried.get((address, port), 0) + PAUSE)
        self.tried[address, port] = at
        await asyncio.sleep(at - now)

    def taken(self, offer_id, leg, where):
        """Tell that this program is the client of a leg."""
        self.say("leg taken", id=offer_id, leg=leg.num, seen_as=where)

    def received(self, offer_id, data):
        """Tell what came, and return what to send back."""
        self.say("received", id=offer_id, bytes=len(data),
                 text=data[:100].decode(errors="replace"))
        return data if self.options.echo else None

    async def use_udp(self, offer_id, leg, address, port):
        """Exchange datagrams."""
        def take(data):
            answer = self.received(offer_id, data)
            if answer is not None:
                client.transport.sendto(answer)

        client, where = await bind.open_udp(leg, address, port, take)
        try:
            # An OPEN leg takes its client by this, be it empty.
            client.transport.sendto(self.options.greeting.encode())
            self.taken(offer_id, leg, where)
            while True:
                await asyncio.sleep(bind.REBIND)
                if leg.token:
                    await client.bind()
        finally:
            client.transport.close()

    async def use_tcp(self, offer_id, leg, address, port):
        """Exchange bytes until the other side sends no more."""
        reader, writer, where = await bind.open_tcp(leg, address, port)
        try:
            writer.write(self.options.greeting.encode())
            self.taken(offer_id, leg, where)
            while data := await reader.read(1 << 16):
                answer = self.received(offer_id, data)
                if answer is not None:
                    writer.write(answer)
                await writer.drain()
        finally:
            writer.close()
