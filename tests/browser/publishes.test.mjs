// cfrealtimesrc plays what Chromium publishes.

import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import test, { after, before } from 'node:test';
import { assertColour, QUARTERS, rgb, until, World } from './lib/harness.mjs';

const COLOURS = ['#c02020', '#20c020', '#2020c0', '#c0c020'];
const FREQUENCY = 440;
const WIDTH = 160;
const HEIGHT = 120;
const FRAME = WIDTH * HEIGHT * 3;
const RATE = 48000;

let world;
before(async () => { world = await new World().start(); }, { timeout: 30000 });
after(() => world?.stop(), { timeout: 20000 });

function sizeOf(file) {
  try {
    return statSync(file).size;
  } catch {
    return 0;
  }
}

function pixel(frame, [x, y]) {
  const at = (Math.round(y * HEIGHT) * WIDTH + Math.round(x * WIDTH)) * 3;
  return [...frame.subarray(at, at + 3)];
}

function countOf(frame) {
  let count = 0;
  for (let bit = 0; bit < 8; bit++)
    if (pixel(frame, [(bit + 0.5) / 8, 11 / 12])[0] > 127) count |= 1 << bit;
  return count;
}

// How much of the samples' energy lies at the frequency (Goertzel's algorithm), 0 to 1.
function share(samples, frequency) {
  const factor = 2 * Math.cos(2 * Math.PI * frequency / RATE);
  let [last, before, energy] = [0, 0, 0];
  for (const sample of samples) {
    [last, before] = [sample + factor * last - before, last];
    energy += sample * sample;
  }
  const power = last * last + before * before - factor * last * before;
  return energy ? 2 * power / (energy * samples.length) : 0;
}

for (const codec of ['video/H264', 'video/VP8', 'video/VP9']) {
  test(`${codec} and Opus, camera and microphone`, { timeout: 60000 }, async () => {
    const page = await world.page();
    const { sessionId } = await page.evaluate(async ({ settings, colours, frequency, codec }) => {
      window.camera = new Camera({ colours });
      window.microphone = new Microphone({ frequency });
      window.client = new Client(settings);
      const transceivers = [client.add(camera.track, codec), client.add(microphone.track)];
      await client.startEmpty();
      await client.push(transceivers);
      return { sessionId: client.sessionId };
    }, { settings: world.clientSettings(), colours: COLOURS, frequency: FREQUENCY, codec });

    const [video, audio] = [world.file(`${codec.slice(6)}.rgb`), world.file(`${codec.slice(6)}.f32`)];
    const player = world.launch(`cfrealtimesrc name=r session-id=${sessionId}
      r. ! queue ! videoconvert ! videoscale ! video/x-raw,format=RGB,width=${WIDTH},height=${HEIGHT}
         ! filesink buffer-mode=unbuffered location=${video}
      r. ! queue ! audioconvert ! audioresample
         ! audio/x-raw,format=F32LE,channels=1,rate=${RATE},layout=interleaved
         ! filesink buffer-mode=unbuffered location=${audio}`, 'the player');
    await until('two seconds of both', () => {
      assert.equal(player.child.exitCode, null, `the player ended:\n${player.output.text}`);
      return sizeOf(video) >= 40 * FRAME && sizeOf(audio) >= 2 * RATE * 4;
    }, 30000);
    assert.equal(await page.evaluate(() => client.sendingCodec('video')), codec);
    await player.stop();

    const frames = await readFile(video);
    const number = Math.floor(frames.length / FRAME);
    const frame = (i) => frames.subarray(i * FRAME, (i + 1) * FRAME);
    QUARTERS.forEach((point, i) =>
        assertColour(pixel(frame(number - 1), point), rgb(COLOURS[i]), `quarter ${i}`));
    // The counter runs forward: frames come in order, and hardly any twice.
    let [steps, jumps] = [0, 0];
    for (let i = number - 20; i < number; i++) {
      const step = (countOf(frame(i)) - countOf(frame(i - 1)) + 256) % 256;
      if (step > 0 && step < 16) steps++;
      else if (step !== 0) jumps++;
    }
    assert.equal(jumps, 0, 'the frame counter jumped');
    assert.ok(steps >= 10, `the frame counter stood still in ${20 - steps} of 20 frames`);

    const bytes = await readFile(audio);
    const samples = new Float32Array(bytes.buffer.slice(bytes.byteOffset,
                                                        bytes.byteOffset + (bytes.length & ~3)));
    const tail = samples.subarray(samples.length - RATE / 2);
    assert.ok(share(tail, FREQUENCY) > 0.8, `only ${share(tail, FREQUENCY)} of the sound is the tone`);
    assert.ok(Math.max(...tail) > 0.1, 'the tone is faint');
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });
}
