// Peer's media side: which pad of webrtcbin belongs to which section.
#include <gst/gst.h>
#include <gst/rtp/rtp.h>

#include <algorithm>

#include "rtc/peer_state.h"

#define GST_CAT_DEFAULT peer_debug()

namespace cfr {

namespace {

using Link = Peer::State::Link;

constexpr size_t kMaxPads = 1024;        // that are kept track of; more are only dropped
constexpr int kInspectedPackets = 2000;  // of a parked pad, in search of a MID

// On a streaming thread.
void on_pad_added(GstElement*, GstPad* pad, gpointer data) {
  if (!GST_PAD_IS_SRC(pad)) return;
  const Link link = *static_cast<Link*>(data);
  // The gate must not keep the pad: it lives in the pad's probes.
  GWeakRef* weak = g_new0(GWeakRef, 1);
  g_weak_ref_init(weak, pad);
  const std::shared_ptr<GWeakRef> pad_ref(weak, [](GWeakRef* ref) {
    g_weak_ref_clear(ref);
    g_free(ref);
  });
  const auto gate = PadGate::install(pad, [link, pad_ref](std::vector<uint8_t> head) {
    gref<GstPad> strong = gref<GstPad>::adopt(static_cast<GstPad*>(g_weak_ref_get(pad_ref.get())));
    if (!strong) return;
    link.post([strong, head = std::move(head)](Peer::State& self) {
      self.on_first_packet(strong.get(), head);
    });
  });
  link.post([strong = gref<GstPad>::ref(pad), gate](Peer::State& self) {
    self.on_pad_added(strong, gate);
  });
}

void on_pad_removed(GstElement*, GstPad* pad, gpointer data) {
  static_cast<Link*>(data)->post(
      [strong = gref<GstPad>::ref(pad)](Peer::State& self) { self.on_pad_removed(strong.get()); });
}

struct Counter {
  std::shared_ptr<void> owner;
  std::atomic<uint64_t>* count;
};

GstPadProbeReturn count_packets(GstPad*, GstPadProbeInfo* info, gpointer data) {
  guint packets = 1;
  if (GST_PAD_PROBE_INFO_TYPE(info) & GST_PAD_PROBE_TYPE_BUFFER_LIST)
    packets = gst_buffer_list_length(GST_PAD_PROBE_INFO_BUFFER_LIST(info));
  static_cast<Counter*>(data)->count->fetch_add(packets, std::memory_order_relaxed);
  return GST_PAD_PROBE_OK;
}

struct RtpbinWatch {
  Link link;
  std::shared_ptr<Peer::State::Counters> counters;
};

// With rtpbin's lock held.
void on_rtpbin_pad(GstElement*, GstPad* pad, gpointer data) {
  const auto& [link, counters] = *static_cast<RtpbinWatch*>(data);
  std::atomic<uint64_t>* count = nullptr;
  if (g_str_has_prefix(GST_PAD_NAME(pad), "recv_rtcp_sink_")) count = &counters->rtcp;
  if (g_str_has_prefix(GST_PAD_NAME(pad), "recv_rtp_sink_")) count = &counters->rtp;
  if (g_str_has_prefix(GST_PAD_NAME(pad), "send_rtcp_src_")) {
    // once, when the first RTCP packet has left
    gst_pad_add_probe(
        pad, GST_PAD_PROBE_TYPE_BUFFER,
        [](GstPad*, GstPadProbeInfo*, gpointer d) {
          static_cast<Link*>(d)->post([](Peer::State& self) { self.pace_rtcp(false); });
          return GST_PAD_PROBE_REMOVE;
        },
        new Link(link), [](gpointer p) { delete static_cast<Link*>(p); });
    link.post([](Peer::State& self) { self.pace_rtcp(true); });
  }
  if (!count) return;
  gst_pad_add_probe(
      pad, static_cast<GstPadProbeType>(GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_BUFFER_LIST),
      count_packets, new Counter{counters, count},
      [](gpointer p) { delete static_cast<Counter*>(p); });
}

// After webrtcbin's own handler, which lets the last announced SSRC decide for all of them.
void on_jitter_buffer(GstElement*, GstElement* buffer, guint, guint ssrc, gpointer data) {
  g_object_set(buffer, "do-retransmission", TRUE, nullptr);
  static_cast<Link*>(data)->post([strong = gref<GstElement>::ref(buffer), ssrc](Peer::State& self) {
    if (self.jitter_buffers_.size() < kMaxPads) self.jitter_buffers_[ssrc] = strong;
  });
}

using Payload = std::shared_ptr<std::atomic<int>>;

void renumber(GstBuffer* buffer, int payload) {
  guint8 octet = 0;
  if (gst_buffer_extract(buffer, 1, &octet, 1) != 1) return;
  octet = (octet & 0x80) | static_cast<guint8>(payload);
  gst_buffer_fill(buffer, 1, &octet, 1);
}

// Gives packets, and the caps that announce them, the payload type the SFU wants.
GstPadProbeReturn renumber_packets(GstPad*, GstPadProbeInfo* info, gpointer data) {
  const int payload = (*static_cast<Payload*>(data))->load(std::memory_order_relaxed);
  if (payload < 0) return GST_PAD_PROBE_OK;
  const GstPadProbeType type = GST_PAD_PROBE_INFO_TYPE(info);
  if (type & GST_PAD_PROBE_TYPE_BUFFER) {
    GstBuffer* buffer = gst_buffer_make_writable(GST_PAD_PROBE_INFO_BUFFER(info));
    renumber(buffer, payload);
    GST_PAD_PROBE_INFO_DATA(info) = buffer;
  } else if (type & GST_PAD_PROBE_TYPE_BUFFER_LIST) {
    GstBufferList* list = gst_buffer_list_make_writable(GST_PAD_PROBE_INFO_BUFFER_LIST(info));
    for (guint i = 0; i < gst_buffer_list_length(list); i++)
      renumber(gst_buffer_list_get_writable(list, i), payload);
    GST_PAD_PROBE_INFO_DATA(info) = list;
  } else if (type & GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM) {
    GstEvent* event = GST_PAD_PROBE_INFO_EVENT(info);
    if (GST_EVENT_TYPE(event) != GST_EVENT_CAPS) return GST_PAD_PROBE_OK;
    GstCaps* caps = nullptr;
    gst_event_parse_caps(event, &caps);
    caps = gst_caps_copy(caps);
    gst_caps_set_simple(caps, "payload", G_TYPE_INT, payload, nullptr);
    GstEvent* changed = gst_event_new_caps(caps);
    gst_event_set_seqnum(changed, gst_event_get_seqnum(event));
    gst_caps_unref(caps);
    gst_event_unref(event);
    GST_PAD_PROBE_INFO_DATA(info) = changed;
  }
  return GST_PAD_PROBE_OK;
}

}  // namespace

void Peer::State::watch_pads() {
  connect(G_OBJECT(webrtcbin_.get()), "pad-added", G_CALLBACK(cfr::on_pad_added), link());
  connect(G_OBJECT(webrtcbin_.get()), "pad-removed", G_CALLBACK(cfr::on_pad_removed), link());
  if (!rtpbin_) return;
  connect(G_OBJECT(rtpbin_.get()), "pad-added", G_CALLBACK(on_rtpbin_pad),
          RtpbinWatch{link(), counters_});
  connect(G_OBJECT(rtpbin_.get()), "new-jitterbuffer", G_CALLBACK(on_jitter_buffer), link());
}

// GStreamer plans RTCP for a session of 64 kbit/s: a NACK or PLI then waits several hundred
// milliseconds for the next one, and up to a second for the first. With a realistic bandwidth
// feedback leaves at once (RFC 4585 3.5), and the regular reports come about once a second, as
// browsers'. The first report, before which no feedback is allowed, comes early under the rules of
// AVP.
void Peer::State::pace_rtcp(bool at_start) {
  if (!rtpbin_) return;
  GObject* session = nullptr;
  g_signal_emit_by_name(rtpbin_.get(), "get-internal-session", 0u, &session);
  if (!session) return;
  g_object_set(session, "bandwidth", 10e6, "rtcp-min-interval",
               guint64(at_start ? 40 * GST_MSECOND : GST_SECOND), "rtp-profile",
               at_start ? GST_RTP_PROFILE_AVP : GST_RTP_PROFILE_SAVPF, nullptr);
  g_object_unref(session);
}

// webrtcbin makes the sink pads of our tracks while it takes the answer.
void Peer::State::find_sink_pads() {
  GList* pads = nullptr;
  GST_OBJECT_LOCK(webrtcbin_.get());
  for (GList* l = webrtcbin_.get()->sinkpads; l; l = l->next)
    pads = g_list_prepend(pads, gst_object_ref(l->data));
  GST_OBJECT_UNLOCK(webrtcbin_.get());
  for (GList* l = pads; l; l = l->next) {
    GstWebRTCRTPTransceiver* transceiver = nullptr;
    g_object_get(l->data, "transceiver", &transceiver, nullptr);
    for (auto& [id, sent] : sent_) {
      if (!transceiver || sent.transceiver.get() != transceiver || sent.pad) continue;
      sent.pad = gref<GstPad>::ref(GST_PAD(l->data));
      sent.payload = std::make_shared<std::atomic<int>>(-1);
      // From here on what the chain sends is what counts, whatever it changes.
      g_object_set(transceiver, "codec-preferences", nullptr, nullptr);
      answer_caps_queries(sent.pad.get());
      gst_pad_add_probe(
          sent.pad.get(),
          static_cast<GstPadProbeType>(GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_BUFFER_LIST |
                                       GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM),
          renumber_packets, new Payload(sent.payload),
          [](gpointer p) { delete static_cast<Payload*>(p); });
    }
    if (transceiver) gst_object_unref(transceiver);
  }
  g_list_free_full(pads, gst_object_unref);
  for (auto& [id, sent] : sent_)
    if (sent.payload) *sent.payload = dialog_.renumbered(id).value_or(-1);

  // webrtcbin draws new SSRCs for retransmissions with every offer; ours are those of the text.
  GstStructure* map = gst_structure_new_empty("application/x-rtp-ssrc-map");
  for (const SdpDialog::Repair& repair : dialog_.repairs())
    gst_structure_set(map, std::to_string(repair.ssrc).c_str(), G_TYPE_UINT, repair.rtx_ssrc,
                      nullptr);
  GstIterator* it =
      gst_bin_iterate_all_by_element_factory_name(GST_BIN(webrtcbin_.get()), "rtprtxsend");
  gst_iterator_foreach(
      it,
      [](const GValue* value, gpointer data) {
        g_object_set(g_value_get_object(value), "ssrc-map", data, nullptr);
      },
      map);
  gst_iterator_free(it);
  gst_structure_free(map);
}

GstPad* Peer::State::sink_pad(uint32_t track) {
  const auto sent = sent_.find(track);
  return sent == sent_.end() ? nullptr : sent->second.pad.get();
}

void Peer::State::on_pad_added(gref<GstPad> pad, std::shared_ptr<PadGate> gate) {
  if (received_.size() >= kMaxPads) {
    gate->park(pad.get(), 0);
    return;
  }
  Received received;
  received.pad = std::move(pad);
  received.gate = std::move(gate);
  received_.push_back(std::move(received));
}

void Peer::State::on_pad_removed(GstPad* pad) {
  received_.erase(std::remove_if(received_.begin(), received_.end(),
                                 [pad](const Received& r) { return r.pad.get() == pad; }),
                  received_.end());
}

void Peer::State::on_first_packet(GstPad* pad, const std::vector<uint8_t>& head) {
  for (Received& r : received_) {
    if (r.pad.get() != pad || !r.mid.empty()) continue;
    RtpHeader header = read_rtp_header(head.data(), head.size(), dialog_.mid_extension_id());
    if (header.payload < 0 || (r.parked && header.mid.empty())) return;
    r.header = std::move(header);
    place_pads();
    return;
  }
}

// Gives every pad whose section is known to the listener; parks the others.
void Peer::State::place_pads() {
  std::vector<std::pair<std::string, gref<GstPad>>> placed;
  for (Received& r : received_) {
    if (!r.mid.empty() || r.header.payload < 0) continue;
    std::set<std::string> taken;
    for (const Received& other : received_)
      if (!other.mid.empty() && !other.left) taken.insert(other.mid);
    const std::string mid =
        dialog_.section_of(r.header.ssrc, r.header.mid, r.header.payload, taken);
    if (mid.empty()) {
      GST_INFO_OBJECT(r.pad.get(), "no section for SSRC %u, payload type %d: dropped for now",
                      r.header.ssrc, r.header.payload);
      if (!r.parked) r.gate->park(r.pad.get(), kInspectedPackets);
      r.parked = true;
      continue;
    }
    r.mid = mid;
    r.parked = false;
    r.gate->hold(r.pad.get());
    const auto buffer = jitter_buffers_.find(r.header.ssrc);
    if (buffer != jitter_buffers_.end()) {
      g_object_set(buffer->second.get(), "do-retransmission",
                   gboolean(dialog_.repairs_section(mid)), nullptr);
      jitter_buffers_.erase(buffer);
    }
    placed.emplace_back(mid, r.pad);
  }
  // The listener may call back, even close().
  for (const auto& [mid, pad] : placed)
    if (!closed_) listener_.on_peer_pad(mid, pad.get());
}

void Peer::State::close_section(const std::string& mid) {
  dialog_.close(mid);
  for (Received& r : received_)
    if (r.mid == mid) r.left = true;
}

// A pad that the section had before is looked at again only now: its last packets may still have
// been under way when its track was closed.
void Peer::State::open_section(const std::string& mid) {
  dialog_.reopen(mid);
  for (Received& r : received_) {
    if (!r.left || r.mid != mid || !dialog_.may_carry(mid, r.header.ssrc)) continue;
    r.mid.clear();
    r.header = {};
    r.left = false;
    r.gate->start_over(r.pad.get());
  }
}

void Peer::State::resume(GstPad* pad) {
  for (Received& r : received_)
    if (r.pad.get() == pad) r.gate->open(pad);
}

void Peer::State::drop_pads() {
  for (Received& r : received_) r.gate->park(r.pad.get(), 0);
  received_.clear();
}

}  // namespace cfr
