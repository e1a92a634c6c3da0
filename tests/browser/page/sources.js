// A camera and a microphone whose pictures and sound can be told apart after encoding, loss and
// scaling: four coloured quarters, a strip of black and white blocks that counts frames, and a tone.

export const COUNTER_BITS = 8;

export class Camera {
  // colours: of the quarters, left to right, top to bottom, as CSS
  constructor({ colours, width = 320, height = 240, fps = 30 }) {
    this.canvas = document.createElement('canvas');
    Object.assign(this.canvas, { width, height });
    this.context = this.canvas.getContext('2d', { alpha: false });
    this.colours = colours;
    this.count = 0;
    this.draw();
    this.stream = this.canvas.captureStream(fps);
    this.track = this.stream.getVideoTracks()[0];
    this.timer = setInterval(() => this.draw(), 1000 / fps);
  }

  draw() {
    const { width, height } = this.canvas;
    const strip = height / 6;
    this.colours.forEach((colour, i) => {
      this.context.fillStyle = colour;
      this.context.fillRect((i % 2) * width / 2, Math.floor(i / 2) * (height - strip) / 2,
                            width / 2, (height - strip) / 2);
    });
    for (let bit = 0; bit < COUNTER_BITS; bit++) {
      this.context.fillStyle = (this.count >> bit) & 1 ? '#ffffff' : '#000000';
      this.context.fillRect(bit * width / COUNTER_BITS, height - strip, width / COUNTER_BITS, strip);
    }
    this.count++;
  }

  stop() {
    clearInterval(this.timer);
    this.track.stop();
  }
}

export class Microphone {
  constructor({ frequency }) {
    this.context = new AudioContext();
    const oscillator = new OscillatorNode(this.context, { frequency });
    const gain = new GainNode(this.context, { gain: 0.5 });
    const output = new MediaStreamAudioDestinationNode(this.context);
    oscillator.connect(gain).connect(output);
    oscillator.start();
    this.track = output.stream.getAudioTracks()[0];
  }

  stop() {
    this.track.stop();
    this.context.close();
  }
}
