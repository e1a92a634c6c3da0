// A webrtcbin driven by hand in the part of an SFU, for the tests of Peer. It can be made to write
// its descriptions as pion-based SFUs do.
#pragma once

#include <gst/gst.h>
#include <gst/sdp/sdp.h>
#include <gst/webrtc/webrtc.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace cfr::test {

// Waits, with a deadline, until something that other threads report becomes true.
class Gate {
 public:
  template <class Change>
  void update(Change change) {
    std::lock_guard<std::mutex> lock(mutex_);
    change();
    changed_.notify_all();
  }
  template <class Condition>
  [[nodiscard]] bool wait(Condition condition, unsigned seconds = 10) {
    std::unique_lock<std::mutex> lock(mutex_);
    const char* scale = g_getenv("CFREALTIME_TIME_SCALE");
    return changed_.wait_for(lock, std::chrono::seconds(seconds) * (scale ? atoi(scale) : 1),
                             condition);
  }
  template <class Read>
  auto read(Read get) {
    std::lock_guard<std::mutex> lock(mutex_);
    return get();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
};

// What arrived on one source pad.
struct Stream {
  std::string encoding;
  uint32_t ssrc = 0;
  uint64_t packets = 0;
  uint64_t missing = 0;  // gaps in the sequence numbers
  uint16_t last = 0;
  std::map<int, uint64_t> payloads;
};

class WebrtcSfu {
 public:
  WebrtcSfu();
  ~WebrtcSfu();

  // Takes an offer, returns the answer. `codecs`: caps for the answer by kind ("" = webrtcbin's
  // own choice).
  std::string answer(const std::string& offer);
  // A sending section for the next offer; `feed`: launch text that ends in an RTP payloader.
  void add_sender(const std::string& caps, const std::string& feed);
  std::string offer();
  void accept(const std::string& answer);
  // A key frame request to whoever sends on the pad with this encoding.
  bool request_key_frame(const std::string& encoding);
  // Without this webrtcbin sends NACKs when its RTCP happens to be due.
  void answer_losses_at_once();
  // Key frame requests that came back to our senders.
  int key_frame_requests() const { return key_frame_requests_; }

  uint64_t packets(const std::string& encoding);
  [[nodiscard]] bool wait_for_packets(const std::string& encoding, uint64_t more);
  std::map<std::string, Stream> streams();
  GstElement* webrtcbin() const { return bin_; }

 private:
  static void on_pad_added(GstElement*, GstPad* pad, gpointer self);
  std::string perform(const char* create, const char* field, GstWebRTCSDPType type);
  void set(bool local, GstWebRTCSDPType type, const std::string& sdp);
  std::string gathered();

  GstElement* pipeline_ = nullptr;
  GstElement* bin_ = nullptr;
  Gate gate_;
  std::map<std::string, Stream> streams_;  // by pad name
  struct Sender {
    GstWebRTCRTPTransceiver* transceiver;
    std::string feed;
    bool linked = false;
  };
  std::vector<Sender> senders_;
  std::atomic<int> key_frame_requests_{0};
};

// A UDP path on the loopback interface that takes its time, to one address of the SFU.
class SlowPath {
 public:
  SlowPath(int target_port, int delay_ms);  // each way
  ~SlowPath();
  int port() const { return port_; }

 private:
  void run();

  const int target_port_, delay_ms_;
  int near_ = -1, far_ = -1;  // sockets: to the client, to the SFU
  int port_ = 0;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// Rewrites a description of webrtcbin in the manner of a pion SFU: fingerprint, setup and
// credentials at session level where webrtcbin wants them in sections, ice-lite, component 2
// candidates, trailing blanks.
std::string like_pion(const std::string& sdp);
// All occurrences.
std::string replaced(std::string text, const std::string& from, const std::string& to);

}  // namespace cfr::test
