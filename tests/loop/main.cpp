#include <gst/gst.h>
#include <gtest/gtest.h>

#include <string>

// `loop_test --launch PIPELINE` runs a pipeline until it is killed: an application that can crash.
static int launch(const char* description) {
  GstElement* pipeline = gst_parse_launch(description, nullptr);
  if (!pipeline) return 1;
  gst_element_set_state(pipeline, GST_STATE_PLAYING);
  g_main_loop_run(g_main_loop_new(nullptr, FALSE));
  return 0;
}

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  gst_init(&argc, &argv);
  if (argc == 3 && std::string(argv[1]) == "--launch") return launch(argv[2]);
  int result = RUN_ALL_TESTS();
  // A filter that fits nothing is a mistake.
  return testing::UnitTest::GetInstance()->test_to_run_count() > 0 ? result : 1;
}
