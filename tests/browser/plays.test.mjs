// Chromium plays what cfrealtimesink publishes.

import assert from 'node:assert/strict';
import test, { after, before } from 'node:test';
import { assertColour, until, World } from './lib/harness.mjs';

// The upper bars of videotestsrc's SMPTE picture, left to right, without the outer ones.
const BARS = [
  [2 / 7, [255, 255, 0]], [3 / 7, [0, 255, 255]], [4 / 7, [0, 255, 0]], [5 / 7, [255, 0, 255]],
].map(([left, colour]) => ({ point: [left - 1 / 14, 0.3], colour }));
// Where that picture holds snow, new in every frame.
const SNOW = Array.from({ length: 8 }, (_, i) => [0.77 + i * 0.03, 0.9]);

let world;
before(async () => { world = await new World().start(); }, { timeout: 30000 });
after(() => world?.stop(), { timeout: 20000 });

async function play(pipeline, trackNames, { codec, size, frequency }) {
  const publisher = world.launch(pipeline, 'the publisher');
  const [, sessionId] = await publisher.output.match(/session-id = "?([0-9a-f]{32})/, 20000);
  const page = await world.page();
  await page.evaluate(async ({ settings, sessionId, trackNames }) => {
    window.client = new Client(settings);
    await client.startEmpty();
    const tracks = await client.pull(sessionId, trackNames);
    for (const track of tracks) {
      if (track.kind === 'video') window.seen = await watchVideo(track);
      else window.heard = await watchAudio(track);
    }
  }, { settings: world.clientSettings(), sessionId, trackNames });

  if (codec) {
    const look = (points) => page.evaluate((at) => seen.look(at), points);
    const picture = await until('a picture', () => look(BARS.map(({ point }) => point)));
    BARS.forEach(({ colour }, i) => assertColour(picture.colours[i], colour, `bar ${i}`));
    assert.deepEqual([picture.width, picture.height], size);
    const faces = new Set();
    await until('the picture moving', async () => {
      const { frames, colours } = await look(SNOW);
      faces.add(String(colours));
      return faces.size >= 4 && frames >= 30;
    });
    assert.equal(await page.evaluate(() => client.receivingCodec('video')), codec);
  }
  if (frequency) {
    await until(`a tone of ${frequency} Hz`, async () => {
      const sound = await page.evaluate(() => heard.hear());
      return sound.rms > 0.02 && Math.abs(sound.frequency - frequency) < 15;
    });
  }
  assert.deepEqual(page.problems, []);
  await page.context().close();
  await publisher.stop();
}

const CAMERA = 'videotestsrc is-live=true ! video/x-raw,width=640,height=480,framerate=30/1';
const TONE = 'audiotestsrc is-live=true freq=660 volume=0.5 ! audio/x-raw,rate=48000,channels=2';
const LIVE = 'tune=zerolatency speed-preset=ultrafast key-int-max=60';

test('raw video and audio, encoded by the sink', { timeout: 60000 }, () => play(
    `cfrealtimesink name=s ${CAMERA} ! s.video_0 ${TONE} ! s.audio_0`,
    ['video_0', 'audio_0'], { codec: 'video/H264', size: [640, 480], frequency: 660 }));

test('H.264 from an encoder of the user', { timeout: 60000 }, () => play(
    `${CAMERA} ! videoconvert ! x264enc ${LIVE} ! h264parse ! cfrealtimesink`,
    ['video_0'], { codec: 'video/H264', size: [640, 480] }));

test('VP8 from an encoder of the user', { timeout: 60000 }, () => play(
    `${CAMERA} ! videoconvert ! vp8enc deadline=1 cpu-used=8 keyframe-max-dist=60 ! cfrealtimesink`,
    ['video_0'], { codec: 'video/VP8', size: [640, 480] }));

test('PCMU from an encoder of the user', { timeout: 60000 }, () => play(
    `${TONE} ! audioconvert ! audioresample ! audio/x-raw,rate=8000,channels=1 ! mulawenc ! cfrealtimesink`,
    ['audio_0'], { frequency: 660 }));
