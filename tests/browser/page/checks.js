// What a received track really shows and sounds like.

import { COUNTER_BITS } from './sources.js';

function mean(data) {
  const sum = [0, 0, 0];
  for (let i = 0; i < data.length; i += 4)
    for (let c = 0; c < 3; c++) sum[c] += data[i + c];
  return sum.map((value) => Math.round(value * 4 / data.length));
}

// Plays the track; look() gives what the newest picture shows, or null before the first.
export async function watchVideo(track) {
  const video = document.createElement('video');
  Object.assign(video, { muted: true, playsInline: true, srcObject: new MediaStream([track]) });
  document.body.append(video);
  video.play().catch(() => {});
  const canvas = document.createElement('canvas');
  const context = canvas.getContext('2d', { willReadFrequently: true });
  return {
    look(points) {
      const { videoWidth: width, videoHeight: height } = video;
      if (!width || video.readyState < 2) return null;
      Object.assign(canvas, { width, height });
      context.drawImage(video, 0, 0);
      const colourAt = ([x, y]) => {
        const half = Math.max(2, Math.round(Math.min(width, height) / 40));
        return mean(context.getImageData(Math.round(x * width) - half, Math.round(y * height) - half,
                                         2 * half, 2 * half).data);
      };
      let count = 0;
      for (let bit = 0; bit < COUNTER_BITS; bit++)
        if (colourAt([(bit + 0.5) / COUNTER_BITS, 11 / 12])[0] > 127) count |= 1 << bit;
      const frames = video.getVideoPlaybackQuality().totalVideoFrames;
      return { width, height, count, frames, colours: points.map(colourAt) };
    },
  };
}

// Listens to the track; hear() gives the loudest frequency and its level, which a silent or noisy
// track does not have.
export async function watchAudio(track) {
  const stream = new MediaStream([track]);
  // Chromium hands a remote track to WebAudio only while an element plays it.
  const element = document.createElement('audio');
  Object.assign(element, { muted: true, srcObject: stream });
  element.play().catch(() => {});
  const context = new AudioContext();
  const analyser = new AnalyserNode(context, { fftSize: 8192, smoothingTimeConstant: 0 });
  context.createMediaStreamSource(stream).connect(analyser);
  const spectrum = new Float32Array(analyser.frequencyBinCount);
  const wave = new Float32Array(analyser.fftSize);
  return {
    keep: [element, context],
    hear() {
      analyser.getFloatFrequencyData(spectrum);
      analyser.getFloatTimeDomainData(wave);
      let best = 1;
      for (let i = 2; i < spectrum.length; i++) if (spectrum[i] > spectrum[best]) best = i;
      const energy = wave.reduce((sum, sample) => sum + sample * sample, 0) / wave.length;
      return { frequency: best * context.sampleRate / analyser.fftSize, rms: Math.sqrt(energy) };
    },
  };
}
