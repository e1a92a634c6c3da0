#!/usr/bin/env node
// An SFU with the same API on another WebRTC stack: werift, whose ICE, DTLS, SRTP and SDP are written in
// TypeScript and share nothing with libnice, OpenSSL, libsrtp or webrtcbin. The elements must publish to
// it and play from it as they do with the local SFU.
//
// It has the command line of cfrealtime-sfu (--address, --port), its first line, and /debug/requests, as
// far as the loop's tests use them. It forwards single layers, as they come.
import { randomBytes } from "node:crypto";
import http from "node:http";
import { MediaStreamTrack, RTCPeerConnection, RTCRtpCodecParameters } from "werift";

function option(name, otherwise) {
  const at = process.argv.indexOf(name);
  return at < 0 ? otherwise : process.argv[at + 1];
}
const address = option("--address", "127.0.0.1");
const secret = process.env.CFREALTIME_APP_SECRET ?? "";

const feedback = [{ type: "nack" }, { type: "nack", parameter: "pli" }];
const video = (name, parameters) =>
  new RTCRtpCodecParameters({ mimeType: `video/${name}`, clockRate: 90000, rtcpFeedback: feedback, parameters });
const codecs = {
  video: [
    video("VP8"),
    video("VP9"),
    video("H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
  ],
  audio: [
    new RTCRtpCodecParameters({ mimeType: "audio/opus", clockRate: 48000, channels: 2 }),
    new RTCRtpCodecParameters({ mimeType: "audio/PCMU", clockRate: 8000, channels: 1, payloadType: 0 }),
    new RTCRtpCodecParameters({ mimeType: "audio/PCMA", clockRate: 8000, channels: 1, payloadType: 8 }),
  ],
};

class Failure extends Error {
  constructor(status, code, text) {
    super(text);
    this.status = status;
    this.code = code;
  }
}

// One track that a session publishes, and the senders of those who pull it.
class Track {
  pullers = new Set();
  codec = undefined; // of its packets; undefined until the first
  constructor(transceiver) {
    this.transceiver = transceiver;
    for (const media of transceiver.receiver.tracks) this.#listen(media);
    transceiver.onTrack.subscribe((media) => this.#listen(media));
  }
  #listen(media) {
    media.onReceiveRtp.subscribe((packet) => {
      this.ssrc = packet.header.ssrc;
      this.codec = this.transceiver.codecs.find((codec) => codec.payloadType === packet.header.payloadType);
      const bytes = packet.serialize();
      // A sender writes into what it is given.
      for (const sender of this.pullers) sender.sendRtp(Buffer.from(bytes)).catch(() => {});
    });
  }
  wantKeyFrame() {
    if (this.ssrc !== undefined) this.transceiver.receiver.sendRtcpPLI(this.ssrc).catch(() => {});
  }
}

const sessions = new Map();

class Session {
  id = randomBytes(16).toString("hex");
  tracks = new Map(); // by name
  pc = new RTCPeerConnection({
    codecs,
    bundlePolicy: "max-bundle",
    iceServers: [],
    iceUseIpv6: false,
    iceAdditionalHostAddresses: [address],
  });

  async #local(description) {
    await this.pc.setLocalDescription(description);
    const { type, sdp } = this.pc.localDescription; // with all candidates
    return { type, sdp };
  }
  #transceiver(mid) {
    return this.pc.getTransceivers().find((transceiver) => transceiver.mid === mid);
  }

  async push({ sessionDescription, tracks }) {
    await this.pc.setRemoteDescription(sessionDescription);
    for (const { mid, trackName } of tracks) {
      const transceiver = this.#transceiver(mid);
      if (!transceiver) throw new Failure(400, "invalid_request", `No section has the mid ${mid}`);
      this.tracks.set(trackName, new Track(transceiver));
    }
    return {
      requiresImmediateRenegotiation: false,
      tracks: tracks.map(({ mid, trackName }) => ({ mid, trackName })),
      sessionDescription: await this.#local(await this.pc.createAnswer()),
    };
  }

  async pull({ tracks }) {
    const items = tracks.map(({ sessionId, trackName }) => {
      const item = { sessionId, trackName };
      const track = sessions.get(sessionId)?.tracks.get(trackName);
      if (!track?.codec) {
        item.errorCode = "not_found_track_error";
        item.errorDescription = "Track not found on remote peer";
        return item;
      }
      const { kind } = track.transceiver;
      const transceiver = this.pc.addTransceiver(new MediaStreamTrack({ kind }), { direction: "sendonly" });
      const name = track.codec.mimeType.toLowerCase();
      transceiver.codecs = codecs[kind].filter((codec) => codec.mimeType.toLowerCase() === name);
      transceiver.sender.onPictureLossIndication.subscribe(() => track.wantKeyFrame());
      track.pullers.add(transceiver.sender);
      return Object.defineProperty(item, "transceiver", { value: transceiver });
    });
    const reply = { requiresImmediateRenegotiation: items.some((item) => item.transceiver), tracks: items };
    if (reply.requiresImmediateRenegotiation)
      reply.sessionDescription = await this.#local(await this.pc.createOffer());
    for (const item of items) if (item.transceiver) item.mid = item.transceiver.mid;
    return reply;
  }

  async close({ tracks, force, sessionDescription }) {
    const negotiated = !force && sessionDescription;
    if (negotiated) await this.pc.setRemoteDescription(sessionDescription);
    for (const { mid } of tracks) {
      const transceiver = this.#transceiver(mid);
      for (const [name, track] of this.tracks) if (track.transceiver === transceiver) this.tracks.delete(name);
      for (const other of sessions.values())
        for (const track of other.tracks.values()) track.pullers.delete(transceiver?.sender);
    }
    const reply = { requiresImmediateRenegotiation: false, tracks: tracks.map(({ mid }) => ({ mid })) };
    if (negotiated) reply.sessionDescription = await this.#local(await this.pc.createAnswer());
    return reply;
  }

  state() {
    return {
      tracks: [...this.tracks].map(([trackName, track]) => ({
        location: "local",
        mid: track.transceiver.mid,
        trackName,
        status: track.codec ? "active" : "waiting",
      })),
    };
  }
}

async function answer(method, path, body) {
  const [version, apps, , resource, id, ...rest] = path.split("?")[0].split("/").filter(Boolean);
  if (version !== "v1" || apps !== "apps" || resource !== "sessions")
    throw new Failure(404, "not_found", "No such path");
  const call = `${method} ${rest.join("/")}`;
  if (id === "new" && method === "POST") {
    const session = new Session();
    sessions.set(session.id, session);
    return [201, { sessionId: session.id }];
  }
  const session = sessions.get(id);
  if (!session || ["closed", "failed"].includes(session.pc.connectionState))
    throw new Failure(410, "session_error", "Session is gone");
  if (call === "GET ") return [200, session.state()];
  if (call === "POST tracks/new")
    return [200, await (body.sessionDescription ? session.push(body) : session.pull(body))];
  if (call === "PUT tracks/close") return [200, await session.close(body)];
  if (call === "PUT renegotiate") {
    await session.pc.setRemoteDescription(body.sessionDescription);
    return [200, {}];
  }
  throw new Failure(404, "not_found", "No such path");
}

const requests = [];
const server = http.createServer(async (request, response) => {
  let text = "";
  for await (const part of request) text += part;
  let status;
  let reply;
  try {
    if (request.url === "/debug/requests") {
      [status, reply] = [200, requests];
    } else {
      if (secret && request.headers.authorization !== `Bearer ${secret}`)
        throw new Failure(401, "unauthorized", "Wrong secret");
      [status, reply] = await answer(request.method, request.url, text ? JSON.parse(text) : undefined);
    }
  } catch (error) {
    status = error.status ?? 500;
    reply = { errorCode: error.code ?? "internal_error", errorDescription: error.message };
  }
  if (reply !== requests) requests.push({ method: request.method, path: request.url, status, reply });
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(reply));
});
server.listen(Number(option("--port", "0")), address, () => {
  console.log(`listening on http://${address}:${server.address().port}/v1`);
});
process.on("SIGTERM", () => process.exit(0));
