#include "rtc/pad_gate.h"

namespace cfr {

namespace {

constexpr size_t kHeaderBytes = 256;  // RTP header with extensions, amply

using Owner = std::shared_ptr<PadGate>;

void release_owner(gpointer data) {
  delete static_cast<Owner*>(data);
}

std::vector<uint8_t> head_of(GstPadProbeInfo* info) {
  GstBuffer* buffer = nullptr;
  if (GST_PAD_PROBE_INFO_TYPE(info) & GST_PAD_PROBE_TYPE_BUFFER_LIST) {
    GstBufferList* list = GST_PAD_PROBE_INFO_BUFFER_LIST(info);
    if (list && gst_buffer_list_length(list) > 0) buffer = gst_buffer_list_get(list, 0);
  } else {
    buffer = GST_PAD_PROBE_INFO_BUFFER(info);
  }
  std::vector<uint8_t> head(kHeaderBytes);
  head.resize(buffer ? gst_buffer_extract(buffer, 0, head.data(), head.size()) : 0);
  return head;
}

GstPadProbeReturn answer_caps(GstPad*, GstPadProbeInfo* info, gpointer) {
  GstQuery* query = GST_PAD_PROBE_INFO_QUERY(info);
  if (GST_QUERY_TYPE(query) != GST_QUERY_CAPS) return GST_PAD_PROBE_OK;
  GstCaps* filter = nullptr;
  gst_query_parse_caps(query, &filter);
  GstCaps* caps = filter ? gst_caps_ref(filter) : gst_caps_new_any();
  gst_query_set_caps_result(query, caps);
  gst_caps_unref(caps);
  return GST_PAD_PROBE_HANDLED;
}

}  // namespace

void answer_caps_queries(GstPad* pad) {
  const GstPadProbeType type =
      GST_PAD_IS_SRC(pad) ? GST_PAD_PROBE_TYPE_QUERY_DOWNSTREAM : GST_PAD_PROBE_TYPE_QUERY_UPSTREAM;
  gst_pad_add_probe(pad, static_cast<GstPadProbeType>(type | GST_PAD_PROBE_TYPE_PUSH), answer_caps,
                    nullptr, nullptr);
}

std::shared_ptr<PadGate> PadGate::install(GstPad* pad, OnPacket on_packet) {
  auto gate = std::make_shared<PadGate>();
  gate->on_packet_ = std::move(on_packet);
  gate->add_block(pad);
  const auto data =
      static_cast<GstPadProbeType>(GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_BUFFER_LIST);
  gst_pad_add_probe(pad, data, on_data, new Owner(gate), release_owner);
  // EOS is stopped on the inner side: on the pad itself it would already have made it refuse data.
  if (GST_IS_PROXY_PAD(pad)) {
    if (GstProxyPad* inner = gst_proxy_pad_get_internal(GST_PROXY_PAD(pad))) {
      gst_pad_add_probe(GST_PAD(inner), GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM, on_internal_event,
                        nullptr, nullptr);
      gst_object_unref(inner);
    }
  }
  answer_caps_queries(pad);
  return gate;
}

void PadGate::add_block(GstPad* pad) {
  const auto type = static_cast<GstPadProbeType>(
      GST_PAD_PROBE_TYPE_BLOCK | GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_BUFFER_LIST);
  std::lock_guard<std::mutex> lock(mutex_);
  if (block_ == 0)
    block_ = gst_pad_add_probe(pad, type, on_blocked, new Owner(shared_from_this()), release_owner);
}

void PadGate::remove_block(GstPad* pad) {
  gulong block = 0;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    std::swap(block, block_);
  }
  if (block) gst_pad_remove_probe(pad, block);
}

void PadGate::hold(GstPad* pad) {
  mode_ = Mode::hold;
  add_block(pad);
}

void PadGate::start_over(GstPad* pad) {
  shown_ = false;
  hold(pad);
}

void PadGate::open(GstPad* pad) {
  mode_ = Mode::open;
  remove_block(pad);
}

void PadGate::park(GstPad* pad, int inspect) {
  inspect_ = inspect;
  mode_ = Mode::park;
  remove_block(pad);
}

GstPadProbeReturn PadGate::on_blocked(GstPad*, GstPadProbeInfo* info, gpointer data) {
  PadGate& gate = **static_cast<Owner*>(data);
  if (!gate.shown_.exchange(true)) gate.on_packet_(head_of(info));
  return GST_PAD_PROBE_OK;  // stays blocked
}

GstPadProbeReturn PadGate::on_data(GstPad* pad, GstPadProbeInfo* info, gpointer data) {
  PadGate& gate = **static_cast<Owner*>(data);
  const Mode mode = gate.mode_;
  if (mode == Mode::park) {
    if (gate.inspect_ > 0 && gate.inspect_-- > 0) gate.on_packet_(head_of(info));
    return GST_PAD_PROBE_DROP;
  }
  // A push into nothing would return not-linked, and that travels up to the socket.
  return gst_pad_is_linked(pad) ? GST_PAD_PROBE_OK : GST_PAD_PROBE_DROP;
}

GstPadProbeReturn PadGate::on_internal_event(GstPad*, GstPadProbeInfo* info, gpointer) {
  return GST_EVENT_TYPE(GST_PAD_PROBE_INFO_EVENT(info)) == GST_EVENT_EOS ? GST_PAD_PROBE_DROP
                                                                         : GST_PAD_PROBE_OK;
}

}  // namespace cfr
