// The inside of a Peer; see peer.h. Everything here is bound to the worker but the counters and
// what is said to run elsewhere.
#pragma once

#include <gst/gst.h>
#include <gst/webrtc/webrtc.h>

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "rtc/mailbox.h"
#include "rtc/pad_gate.h"
#include "rtc/peer.h"
#include "rtc/rtp_header.h"
#include "rtc/sdp.h"
#include "rtc/webrtc_call.h"

namespace cfr {

struct Peer::State : std::enable_shared_from_this<Peer::State> {
  State(Worker& worker, GstElement* webrtcbin, PeerSettings settings, Listener& listener);

  // peer.cpp: exchanges
  void start();
  void create_offer(const std::vector<SendTrack>& tracks, Callback<Offer> done);
  void set_remote(bool is_offer, const std::string& sdp, Callback<RemoteResult> done);
  void create_answer(Callback<std::string> done);
  void candidate_pair(Callback<CandidatePair> done);
  GstPad* sink_pad(uint32_t track);
  void close();

  // peer_media.cpp: pads
  void watch_pads();
  void pace_rtcp(bool at_start);
  void find_sink_pads();
  void on_pad_added(gref<GstPad> pad, std::shared_ptr<PadGate> gate);
  void on_first_packet(GstPad* pad, const std::vector<uint8_t>& head);
  void on_pad_removed(GstPad* pad);
  void place_pads();
  void close_section(const std::string& mid);
  void open_section(const std::string& mid);
  void resume(GstPad* pad);
  void drop_pads();

  // peer_connection.cpp: transport
  void configure();
  void watch_connection();
  void find_transport();
  void check_connection();
  void check_gathering();
  void on_candidate(std::string candidate);

  // Runs `task` on the worker while this lives. For handlers; `weak` and `mail` are what they keep.
  struct Link {
    std::weak_ptr<State> weak;
    std::shared_ptr<Mailbox> mail;
    void post(std::function<void(State&)> task) const;
  };
  Link link() { return {weak_from_this(), mail_}; }
  // Connects a handler that close() disconnects.
  template <class Data>
  void connect(GObject* object, const char* signal, GCallback handler, Data data) {
    const gulong id = g_signal_connect_data(
        object, signal, handler, new Data(std::move(data)),
        [](gpointer p, GClosure*) { delete static_cast<Data*>(p); }, GConnectFlags(0));
    handlers_.push_back({gref<GObject>::ref(object), id});
  }
  // A callback of webrtc_call that runs only while this lives, is open and still waits for it.
  OnWebrtcReply step(std::function<void(State&, const WebrtcReply&)> then);
  void fail(Error error);  // ends the exchange under way
  void set_local(bool is_offer, const SdpDialog::Texts& texts);
  void wait_for_candidates();
  void finish_soon();
  void finish_local();

  // given
  Worker& worker_;
  gref<GstElement> webrtcbin_;
  const PeerSettings settings_;
  Listener& listener_;

  // owned
  std::shared_ptr<Mailbox> mail_;
  gref<GstElement> rtpbin_;
  struct Handler {
    gref<GObject> object;
    gulong id;
  };
  std::vector<Handler> handlers_;
  std::string token_;
  SdpDialog dialog_;
  struct Counters {
    std::atomic<uint64_t> rtp{0}, rtcp{0};
  };
  std::shared_ptr<Counters> counters_ = std::make_shared<Counters>();

  // the exchange under way: at most one callback is set
  uint64_t exchange_ = 0;
  Callback<Offer> on_offer_;
  Callback<RemoteResult> on_remote_;
  Callback<std::string> on_answer_;
  std::deque<Callback<CandidatePair>> on_pair_;
  RemoteResult remote_result_;
  std::string wire_;
  bool waiting_for_candidates_ = false;
  Timer candidate_timer_;
  bool gathered_ = false;
  std::vector<std::string> candidates_;

  // sent tracks
  struct Sent {
    gref<GstWebRTCRTPTransceiver> transceiver;
    gref<GstPad> pad;                           // after the answer
    std::shared_ptr<std::atomic<int>> payload;  // what packets are renumbered to; -1 = they are not
  };
  std::map<uint32_t, Sent> sent_;

  // received pads
  struct Received {
    gref<GstPad> pad;
    std::shared_ptr<PadGate> gate;
    RtpHeader header;     // payload -1 = nothing has come
    std::string mid;      // once it was given to the listener
    bool parked = false;  // dropped: nobody knows what it is
    bool left = false;    // its track was closed
  };
  std::vector<Received> received_;
  std::map<uint32_t, gref<GstElement>> jitter_buffers_;  // by SSRC

  // connection
  gref<GObject> dtls_, ice_;
  PeerConnection connection_ = PeerConnection::connecting;
  bool closed_ = false;
};

GstDebugCategory* peer_debug();  // "cfrealtime"

inline gref<GObject> object_property(gpointer object, const char* name) {
  GObject* value = nullptr;
  g_object_get(object, name, &value, nullptr);
  return gref<GObject>::adopt(value);
}

}  // namespace cfr
