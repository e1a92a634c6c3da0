// Two browsers call each other through the local SFU, as introductions to the API do it.

import assert from 'node:assert/strict';
import test, { after, before } from 'node:test';
import { assertColour, QUARTERS, rgb, until, World } from './lib/harness.mjs';

const PEOPLE = [
  { colours: ['#c02020', '#20c020', '#2020c0', '#c0c020'], frequency: 440 },
  { colours: ['#20c0c0', '#c020c0', '#e0e0e0', '#804000'], frequency: 1000 },
];

let world;
before(async () => { world = await new World().start(); }, { timeout: 30000 });
after(() => world?.stop(), { timeout: 20000 });

async function arrive(page, { colours, frequency }) {
  return page.evaluate(async ({ settings, colours, frequency }) => {
    window.camera = new Camera({ colours });
    window.microphone = new Microphone({ frequency });
    window.client = new Client(settings);
    const transceivers = [client.add(camera.track), client.add(microphone.track)];
    await client.startWithOffer();
    const trackNames = await client.push(transceivers);
    return { sessionId: client.sessionId, trackNames };
  }, { settings: world.clientSettings(), colours, frequency });
}

async function listenTo(page, { sessionId, trackNames }) {
  await page.evaluate(async ({ sessionId, trackNames }) => {
    const [video, audio] = await client.pull(sessionId, trackNames);
    window.seen = await watchVideo(video);
    window.heard = await watchAudio(audio);
  }, { sessionId, trackNames });
}

const look = (page) => page.evaluate((points) => seen.look(points), QUARTERS);
const hear = (page) => page.evaluate(() => heard.hear());

async function assertShows(page, { colours, frequency }, who) {
  const first = await until(`${who} seeing a picture`, () => look(page));
  first.colours.forEach((colour, i) => assertColour(colour, rgb(colours[i]), `${who}, quarter ${i}`));
  const counts = new Set();
  await until(`${who} seeing the picture move`, async () => {
    counts.add((await look(page)).count);
    return counts.size >= 5;
  });
  await until(`${who} hearing ${frequency} Hz`, async () => {
    const sound = await hear(page);
    return sound.rms > 0.02 && Math.abs(sound.frequency - frequency) < 15;
  });
}

test('two browsers see and hear each other over one connection each', { timeout: 60000 }, async () => {
  const pages = [await world.page(), await world.page()];
  const guests = [];
  for (const [i, page] of pages.entries()) guests.push(await arrive(page, PEOPLE[i]));
  await listenTo(pages[0], guests[1]);
  await listenTo(pages[1], guests[0]);
  await assertShows(pages[0], PEOPLE[1], 'the first');
  await assertShows(pages[1], PEOPLE[0], 'the second');

  // Sending went on while receiving was negotiated on the same connection.
  for (const page of pages) {
    const sections = await page.evaluate(() => client.pc.getTransceivers().map((t) =>
        [t.mid, t.currentDirection]));
    assert.deepEqual(sections.map(([, direction]) => direction),
                     ['sendonly', 'sendonly', 'recvonly', 'recvonly']);
    assert.equal(new Set(sections.map(([mid]) => mid)).size, 4);
    assert.deepEqual(page.problems, []);
  }
  for (const page of pages) await page.context().close();
});

test('a browser sees its own tracks as an echo', { timeout: 60000 }, async () => {
  const page = await world.page();
  const guest = await arrive(page, PEOPLE[0]);
  await listenTo(page, guest);
  await assertShows(page, PEOPLE[0], 'the echo');
  assert.deepEqual(page.problems, []);
  await page.context().close();
});

test('a late third browser gets a picture at once', { timeout: 60000 }, async () => {
  const [speaker, early, late] = [await world.page(), await world.page(), await world.page()];
  const guest = await arrive(speaker, PEOPLE[1]);
  const join = (page) => page.evaluate(async (settings) => {
    window.client = new Client(settings);
    await client.startEmpty();
  }, world.clientSettings());
  await join(early);
  await listenTo(early, guest);
  await assertShows(early, PEOPLE[1], 'the early one');
  await join(late);
  await listenTo(late, guest);
  await until('a first picture', () => look(late), 10000);
  await assertShows(late, PEOPLE[1], 'the late one');
  for (const page of [speaker, early, late]) {
    assert.deepEqual(page.problems, []);
    await page.context().close();
  }
});

test('a browser adds and closes tracks during a call', { timeout: 60000 }, async () => {
  const [speaker, viewer] = [await world.page(), await world.page()];
  const guest = await arrive(speaker, PEOPLE[0]);
  await viewer.evaluate(async (settings) => {
    window.client = new Client(settings);
    await client.startEmpty();
  }, world.clientSettings());
  await listenTo(viewer, guest);
  await assertShows(viewer, PEOPLE[0], 'the viewer');

  const added = await speaker.evaluate(async (colours) => {
    window.screenShare = new Camera({ colours });
    window.shareTransceiver = client.add(screenShare.track);
    const trackNames = await client.push([shareTransceiver]);
    return { sessionId: client.sessionId, trackNames };
  }, PEOPLE[1].colours);
  await viewer.evaluate(async ({ sessionId, trackNames }) => {
    const [video] = await client.pull(sessionId, trackNames);
    window.share = await watchVideo(video);
  }, added);
  const picture = await until('the second picture',
                              () => viewer.evaluate((points) => share.look(points), QUARTERS));
  picture.colours.forEach((colour, i) =>
      assertColour(colour, rgb(PEOPLE[1].colours[i]), `second picture, quarter ${i}`));

  await speaker.evaluate(() => client.close([shareTransceiver], { force: false }));
  await assertShows(viewer, PEOPLE[0], 'the viewer after the close');
  assert.deepEqual([...speaker.problems, ...viewer.problems], []);
  for (const page of [speaker, viewer]) await page.context().close();
});

test('a call outlives the first section of its connection', { timeout: 60000 }, async () => {
  const [speaker, viewer] = [await world.page(), await world.page()];
  const guest = await arrive(speaker, PEOPLE[0]);
  await viewer.evaluate(async (settings) => {
    window.client = new Client(settings);
    await client.startEmpty();
  }, world.clientSettings());
  await listenTo(viewer, guest);
  await assertShows(viewer, PEOPLE[0], 'the viewer');
  const added = await speaker.evaluate(async (colours) => {
    window.screenShare = new Camera({ colours });
    const trackNames = await client.push([client.add(screenShare.track)]);
    return { sessionId: client.sessionId, trackNames };
  }, PEOPLE[1].colours);

  // Chromium replaces the connection when the section it is named after ends, and tells nobody.
  const closeFirst = (page) => page.evaluate(() =>
      client.close([client.pc.getTransceivers()[0]], { force: false }));
  const assertHears = async (what) => {
    const count = () => viewer.evaluate(async () => {
      const [report] = await client.stats('inbound-rtp', 'audio');
      return report.packetsReceived;
    });
    const before = await count();
    await until(what, async () => await count() > before + 50);
    await until(what, async () => {
      const sound = await hear(viewer);
      return sound.rms > 0.02 && Math.abs(sound.frequency - PEOPLE[0].frequency) < 15;
    });
  };
  await closeFirst(speaker);
  await assertHears('sound after the speaker closed the first section');
  await closeFirst(viewer);
  await assertHears('sound after the viewer closed the first section');

  await viewer.evaluate(async ({ sessionId, trackNames }) => {
    const [video] = await client.pull(sessionId, trackNames);
    window.seen = await watchVideo(video);
  }, added);
  await assertShows(viewer, { ...PEOPLE[1], frequency: PEOPLE[0].frequency }, 'the viewer again');
  assert.deepEqual([...speaker.problems, ...viewer.problems], []);
  for (const page of [speaker, viewer]) await page.context().close();
});
