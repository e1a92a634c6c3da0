// A browser's client of the Realtime API, in the shape that introductions to it show: one
// PeerConnection that pushes and pulls, fetch() straight from the page.

function condition(what, target, event, check, timeoutMs = 5000) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      target.removeEventListener(event, listener);
      reject(new Error(`${what}: not within ${timeoutMs} ms`));
    }, timeoutMs);
    function listener() {
      if (!check()) return;
      clearTimeout(timer);
      target.removeEventListener(event, listener);
      resolve();
    }
    target.addEventListener(event, listener);
    listener();
  });
}

export class Client {
  constructor({ apiUrl, appId, appSecret }) {
    this.base = `${apiUrl}/apps/${appId}`;
    this.headers = { authorization: `Bearer ${appSecret}`, 'content-type': 'application/json' };
    this.pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    this.received = new Map();  // mid -> track
    this.pc.addEventListener('track', ({ transceiver, track }) => {
      this.received.set(transceiver.mid, track);
      this.pc.dispatchEvent(new Event('received'));
    });
  }

  async call(method, path, body, { itemsMayFail = false } = {}) {
    const reply = await fetch(this.base + path, {
      method, headers: this.headers, body: body === undefined ? undefined : JSON.stringify(body),
    });
    const value = await reply.json();
    if (!reply.ok || value.errorCode)
      throw new Error(`${method} ${path}: ${reply.status} ${value.errorCode} ${value.errorDescription}`);
    for (const { trackName, mid, errorCode } of value.tracks ?? [])
      if (errorCode && !itemsMayFail) throw new Error(`${trackName ?? mid}: ${errorCode}`);
    return value;
  }

  add(track, codec) {
    const transceiver = this.pc.addTransceiver(track, { direction: 'sendonly' });
    if (codec) {
      const codecs = RTCRtpSender.getCapabilities(track.kind).codecs;
      const wanted = codecs.filter(({ mimeType }) => mimeType.toLowerCase() === codec.toLowerCase());
      if (!wanted.length) throw new Error(`this browser does not send ${codec}`);
      const others = codecs.filter(({ mimeType }) => /\/(rtx|red|ulpfec)$/i.test(mimeType));
      transceiver.setCodecPreferences([...wanted, ...others]);
    }
    return transceiver;
  }

  async offer() {
    await this.pc.setLocalDescription(await this.pc.createOffer());
    return { type: 'offer', sdp: this.pc.localDescription.sdp };
  }

  connected() {
    return condition('connected', this.pc, 'iceconnectionstatechange',
                     () => ['connected', 'completed'].includes(this.pc.iceConnectionState));
  }

  // The first offer makes the session and the connection; no track is published by it.
  async startWithOffer() {
    const { sessionId, sessionDescription } =
        await this.call('POST', '/sessions/new', { sessionDescription: await this.offer() });
    this.sessionId = sessionId;
    await this.pc.setRemoteDescription(sessionDescription);
    await this.connected();
  }

  // The other start: an empty session, and the first offer with the tracks.
  async startEmpty() {
    ({ sessionId: this.sessionId } = await this.call('POST', '/sessions/new'));
  }

  async push(transceivers) {
    const sessionDescription = await this.offer();
    const tracks = transceivers.map(({ mid, sender }) =>
        ({ location: 'local', mid, trackName: sender.track.id }));
    const reply = await this.call('POST', `/sessions/${this.sessionId}/tracks/new`,
                                  { sessionDescription, tracks });
    await this.pc.setRemoteDescription(reply.sessionDescription);
    await this.connected();
    return tracks.map(({ trackName }) => trackName);
  }

  // Gives the received tracks in the order asked for. What is not there yet is asked for again.
  async pull(sessionId, trackNames) {
    const mids = new Map();
    const missing = () => trackNames.filter((name) => !mids.has(name));
    for (const until = performance.now() + 15000; missing().length;) {
      const reply = await this.call('POST', `/sessions/${this.sessionId}/tracks/new`, {
        tracks: missing().map((trackName) => ({ location: 'remote', sessionId, trackName })),
      }, { itemsMayFail: true });
      for (const { trackName, mid, errorCode, errorDescription } of reply.tracks) {
        if (!errorCode) mids.set(trackName, mid);
        else if (!/^(not_found|empty)_track_error$/.test(errorCode) || performance.now() > until)
          throw new Error(`${trackName}: ${errorCode} ${errorDescription}`);
      }
      if (reply.requiresImmediateRenegotiation) {
        await this.pc.setRemoteDescription(reply.sessionDescription);
        await this.pc.setLocalDescription(await this.pc.createAnswer());
        await this.call('PUT', `/sessions/${this.sessionId}/renegotiate`, {
          sessionDescription: { type: 'answer', sdp: this.pc.localDescription.sdp },
        });
      }
      if (missing().length) await new Promise((resolve) => setTimeout(resolve, 200));
    }
    await this.connected();
    const wanted = trackNames.map((name) => mids.get(name));
    await condition('tracks', this.pc, 'received', () => wanted.every((mid) => this.received.has(mid)));
    return wanted.map((mid) => this.received.get(mid));
  }

  async stats(type, kind) {
    const report = await this.pc.getStats();
    return [...report.values()].filter((entry) => entry.type === type && (!kind || entry.kind === kind));
  }

  async sendingCodec(kind) {
    const report = await this.pc.getStats();
    for (const entry of report.values())
      if (entry.type === 'outbound-rtp' && entry.kind === kind && report.get(entry.codecId))
        return report.get(entry.codecId).mimeType;
    return null;
  }

  async receivingCodec(kind) {
    const report = await this.pc.getStats();
    for (const entry of report.values())
      if (entry.type === 'inbound-rtp' && entry.kind === kind && report.get(entry.codecId))
        return report.get(entry.codecId).mimeType;
    return null;
  }

  // One track by negotiation, the last ones by force.
  async close(transceivers, { force }) {
    const tracks = transceivers.map(({ mid }) => ({ mid }));
    if (force) return this.call('PUT', `/sessions/${this.sessionId}/tracks/close`, { tracks, force });
    for (const transceiver of transceivers) transceiver.stop();
    const sessionDescription = await this.offer();
    const reply = await this.call('PUT', `/sessions/${this.sessionId}/tracks/close`,
                                  { tracks, force, sessionDescription });
    await this.pc.setRemoteDescription(reply.sessionDescription);
    return reply;
  }
}
